//! Which runtime and which allocator a process has, and what finds a leak in such a one.

use crate::msg;
use crate::report::Msg;

/// What allocates the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A Java virtual machine.
    Jvm,
    /// CPython.
    Python,
    /// Go.
    Go,
    /// Node.js.
    Node,
    /// Native code on jemalloc.
    Jemalloc,
    /// Native code on tcmalloc.
    Tcmalloc,
    /// Native code on the C library's malloc.
    Glibc,
}

impl Runtime {
    const ALL: [Self; 7] = [
        Self::Jvm,
        Self::Python,
        Self::Go,
        Self::Node,
        Self::Jemalloc,
        Self::Tcmalloc,
        Self::Glibc,
    ];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jvm => "jvm",
            Self::Python => "python",
            Self::Go => "go",
            Self::Node => "node",
            Self::Jemalloc => "jemalloc",
            Self::Tcmalloc => "tcmalloc",
            Self::Glibc => "glibc",
        }
    }
}

/// The last part of a path, without what the kernel says of a file that was replaced.
fn base(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

/// `python`, `python3`, `python3.12`: a name, with a version or without.
fn versioned(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem)
        .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// Tells the runtime by the libraries that are mapped and what is linked into the program (`[linked: …]`, see
/// `read_libraries`), the program's path, and its name: in this order, for a name may be anything. `None`: nothing
/// tells it, as of a static program on the C library's malloc.
#[must_use]
pub fn runtime_of(comm: Option<&str>, exe: Option<&str>, mapped: &[&str]) -> Option<Runtime> {
    let libraries = || mapped.iter().map(|path| base(path));
    let library = |stem: &str| libraries().any(|name| name.starts_with(stem));
    if library("libjvm.so") {
        return Some(Runtime::Jvm);
    }
    let linked = |what: &str| mapped.contains(&what);
    if library("libnode.so") || linked("[linked: node]") {
        return Some(Runtime::Node);
    }
    // Many a program in Go is called `node` or `java-agent`.
    if linked("[linked: go]") {
        return Some(Runtime::Go);
    }
    let names = [exe.map(base), comm];
    for name in names.into_iter().flatten() {
        if name == "java" || name == "jsvc" {
            return Some(Runtime::Jvm);
        }
        if name == "node" || name == "nodejs" {
            return Some(Runtime::Node);
        }
        if versioned(name, "python") || versioned(name, "pypy") {
            return Some(Runtime::Python);
        }
    }
    if library("libpython") || linked("[linked: python]") {
        return Some(Runtime::Python);
    }
    // Since Go 1.25 on kernels that name mappings; gccgo's library.
    if mapped.contains(&"[anon: Go: heap]") || library("libgo.so") {
        return Some(Runtime::Go);
    }
    if library("libjemalloc") || linked("[linked: jemalloc]") {
        return Some(Runtime::Jemalloc);
    }
    if library("libtcmalloc") {
        return Some(Runtime::Tcmalloc);
    }
    library("libc.so.6").then_some(Runtime::Glibc)
}

/// How to find what leaks, first things first: commands as they are typed, for this process where its id is known.
#[must_use]
pub fn advice(runtime: Option<Runtime>, pid: Option<u32>) -> Vec<Msg> {
    let pid = pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    match runtime {
        Some(Runtime::Jvm) => vec![
            msg!(
                "JVM: which classes grow: `jcmd {pid} GC.class_histogram` twice, an hour apart",
                "JVM：查看哪些类在增长：间隔一小时执行两次 `jcmd {pid} GC.class_histogram`"
            ),
            msg!(
                "heap dump for Eclipse MAT (stops the process while it is written; as large as the heap): \
                 `jmap -dump:live,format=b,file=/tmp/heap.hprof {pid}`",
                "生成堆转储并用 Eclipse MAT 分析（转储期间进程暂停，文件与堆同大）：\
                 `jmap -dump:live,format=b,file=/tmp/heap.hprof {pid}`"
            ),
            msg!(
                "is the heap level after a collection? See the GC log: `jcmd {pid} VM.log output=/tmp/gc.log 'what=gc*'` \
                 (JDK 9 and later; at start: `'-Xlog:gc*:file=/tmp/gc.log'`)",
                "检查 GC 日志，看回收后堆是否平稳：`jcmd {pid} VM.log output=/tmp/gc.log 'what=gc*'`\
                 （JDK 9 及以上；启动参数：`'-Xlog:gc*:file=/tmp/gc.log'`）"
            ),
            msg!(
                "memory outside of the heap: `jcmd {pid} VM.native_memory summary` \
                 (needs `-XX:NativeMemoryTracking=summary` at start)",
                "堆外内存：`jcmd {pid} VM.native_memory summary`（启动时需要 `-XX:NativeMemoryTracking=summary`）"
            ),
        ],
        Some(Runtime::Python) => vec![
            msg!(
                "Python: allocations by line, without a restart: `memray attach {pid}` (memray must be installed in the \
                 environment of the process, and gdb or lldb here); what it does now: `py-spy dump --pid {pid}`",
                "Python：无需重启，按代码行查看分配：`memray attach {pid}`（进程自身的环境中须装有 memray，\
                 本机须有 gdb 或 lldb）；查看当前调用栈：`py-spy dump --pid {pid}`"
            ),
            msg!(
                "in the program: `tracemalloc.start(25)`, then two `tracemalloc.take_snapshot()` an hour apart and \
                 `second.compare_to(first, 'lineno')`",
                "在程序中：`tracemalloc.start(25)`，间隔一小时两次 `tracemalloc.take_snapshot()`，\
                 再 `second.compare_to(first, 'lineno')`"
            ),
            msg!(
                "objects level but memory grows: native code or fragments; try MALLOC_ARENA_MAX=2, \
                 or record native frames: `memray run --native`",
                "对象数平稳而内存增长：原生代码或碎片；可试 MALLOC_ARENA_MAX=2，\
                 或记录原生栈：`memray run --native`"
            ),
        ],
        Some(Runtime::Go) => vec![
            msg!(
                "Go: heap profiles of two moments (net/http/pprof; HOST:PORT is the program's): \
                 `go tool pprof -top -base heap1.pb.gz heap2.pb.gz`, each by \
                 `curl -o heap1.pb.gz 'http://HOST:PORT/debug/pprof/heap?gc=1'`",
                "Go：比较两个时刻的堆剖析（需 net/http/pprof，HOST:PORT 为程序地址）：\
                 `go tool pprof -top -base heap1.pb.gz heap2.pb.gz`，每份用 \
                 `curl -o heap1.pb.gz 'http://HOST:PORT/debug/pprof/heap?gc=1'` 获取"
            ),
            msg!(
                "goroutines that never end hold memory: `curl 'http://HOST:PORT/debug/pprof/goroutine?debug=1'`",
                "不退出的 goroutine 会占住内存：`curl 'http://HOST:PORT/debug/pprof/goroutine?debug=1'`"
            ),
            msg!(
                "the collector's view: GODEBUG=gctrace=1 at start; GOMEMLIMIT bounds the heap",
                "回收器的视角：启动时 GODEBUG=gctrace=1；GOMEMLIMIT 可限制堆"
            ),
        ],
        Some(Runtime::Node) => vec![
            msg!(
                "Node.js: a heap snapshot without a restart: `node inspect -p {pid}`, then type \
                 `takeHeapSnapshot('/tmp/1.heapsnapshot')`; another one an hour later, and compare both in Chrome \
                 (DevTools, Memory, Load). It opens the debug port 9229 on localhost",
                "Node.js：无需重启即可取堆快照：`node inspect -p {pid}`，再输入 \
                 `takeHeapSnapshot('/tmp/1.heapsnapshot')`；一小时后再取一份，\
                 在 Chrome（DevTools → Memory → Load）中比较。会打开本机调试端口 9229"
            ),
            msg!(
                "without a port: start with `node --heapsnapshot-signal=SIGUSR2`, then `kill -USR2 {pid}` writes a \
                 snapshot (without that option the signal ends the process)",
                "不开端口：用 `node --heapsnapshot-signal=SIGUSR2` 启动，`kill -USR2 {pid}` 即写出堆快照\
                （未加该选项时此信号会终止进程）"
            ),
            msg!(
                "heap level but memory grows: buffers or native modules, see `process.memoryUsage()`: external, \
                 arrayBuffers",
                "堆平稳而内存增长：Buffer 或原生模块，见 `process.memoryUsage()` 的 external 与 arrayBuffers"
            ),
        ],
        Some(Runtime::Jemalloc) => vec![
            msg!(
                "jemalloc: start with `MALLOC_CONF=prof:true,lg_prof_sample:19,lg_prof_interval:30,prof_prefix:/tmp/jeprof` \
                 (needs a build with --enable-prof; a profile for each GiB allocated), then compare the first and the \
                 last: `jeprof --text --base=/tmp/jeprof.FIRST.heap PROGRAM /tmp/jeprof.LAST.heap`",
                "jemalloc：以 `MALLOC_CONF=prof:true,lg_prof_sample:19,lg_prof_interval:30,prof_prefix:/tmp/jeprof` 启动\
                （需 --enable-prof 编译；每分配 1 GiB 写一份），再比较首尾两份：\
                 `jeprof --text --base=/tmp/jeprof.FIRST.heap PROGRAM /tmp/jeprof.LAST.heap`"
            ),
            msg!(
                "freed but not given back: compare `stats.allocated` and `stats.resident` (malloc_stats_print); \
                 MALLOC_CONF=background_thread:true,dirty_decay_ms:5000 gives back sooner",
                "已释放但未归还：比较 `stats.allocated` 与 `stats.resident`（malloc_stats_print）；\
                 MALLOC_CONF=background_thread:true,dirty_decay_ms:5000 可更快归还"
            ),
        ],
        Some(Runtime::Tcmalloc) => vec![
            msg!(
                "tcmalloc (gperftools): start with HEAPPROFILE=/tmp/heap, then \
                 `pprof --base=/tmp/heap.0001.heap PROGRAM /tmp/heap.0009.heap`",
                "tcmalloc（gperftools）：以 HEAPPROFILE=/tmp/heap 启动，再用 \
                 `pprof --base=/tmp/heap.0001.heap PROGRAM /tmp/heap.0009.heap` 比较"
            ),
            msg!(
                "freed but not given back: MALLOCSTATS=1 prints it at exit; TCMALLOC_RELEASE_RATE=10 gives back sooner",
                "已释放但未归还：MALLOCSTATS=1 在退出时打印；TCMALLOC_RELEASE_RATE=10 可更快归还"
            ),
        ],
        Some(Runtime::Glibc) => vec![
            msg!(
                "glibc malloc: allocations by stack, without a restart: `heaptrack -p {pid}` (it stops the program for a moment, and may end an unlucky one)",
                "glibc malloc：无需重启，按调用栈查看分配：`heaptrack -p {pid}`（会短暂暂停进程，极少数情况下可能使其退出）"
            ),
            msg!(
                "leak or fragments? In use against free, of each arena: \
                 `gdb -p {pid} -batch -ex 'set $f = (void*)fopen(\"/tmp/malloc_info.xml\", \"w\")' -ex 'call (int)malloc_info(0, $f)' -ex 'call (int)fclose($f)'` (the file is written by the program, where it may)",
                "泄漏还是碎片？按 arena 查看在用与空闲：\
                 `gdb -p {pid} -batch -ex 'set $f = (void*)fopen(\"/tmp/malloc_info.xml\", \"w\")' -ex 'call (int)malloc_info(0, $f)' -ex 'call (int)fclose($f)'`（由程序自身写入该文件）"
            ),
            msg!(
                "many threads and fragments: start with MALLOC_ARENA_MAX=2; what is free goes back by \
                 `gdb -p {pid} -batch -ex 'call (int)malloc_trim(0)'`",
                "线程多且有碎片：以 MALLOC_ARENA_MAX=2 启动；归还空闲内存：\
                 `gdb -p {pid} -batch -ex 'call (int)malloc_trim(0)'`"
            ),
        ],
        None => vec![msg!(
            "find the code: take a heap profile twice, an hour apart, and compare; for native code: \
                 `heaptrack -p {pid}`, for a JVM: `jcmd {pid} GC.class_histogram`",
            "定位代码：间隔一小时各取一次堆剖析并比较；原生程序：`heaptrack -p {pid}`，\
                 JVM：`jcmd {pid} GC.class_histogram`"
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_told_by_libraries_then_path_then_name() {
        let of = |comm: &str, exe: &str, mapped: &[&str]| {
            runtime_of(
                (!comm.is_empty()).then_some(comm),
                (!exe.is_empty()).then_some(exe),
                mapped,
            )
        };
        let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
        let jvm = "/usr/lib/jvm/java-17/lib/server/libjvm.so";
        for (comm, exe, mapped, told) in [
            ("java", "", &[][..], Some(Runtime::Jvm)),
            (
                "elasticsearch[n",
                "/opt/jdk/bin/java",
                &[],
                Some(Runtime::Jvm),
            ),
            ("C2 CompilerThre", "", &[libc, jvm], Some(Runtime::Jvm)),
            (
                "gunicorn",
                "/usr/bin/python3.12",
                &[],
                Some(Runtime::Python),
            ),
            (
                "worker",
                "/usr/bin/python3.12 (deleted)",
                &[libc],
                Some(Runtime::Python),
            ),
            (
                "uwsgi",
                "/usr/bin/uwsgi",
                &[libc, "/usr/lib/libpython3.11.so.1.0"],
                Some(Runtime::Python),
            ),
            ("node", "", &[], Some(Runtime::Node)),
            ("MainThread", "/usr/bin/node", &[libc], Some(Runtime::Node)),
            (
                "redis-server",
                "/usr/bin/redis-server",
                &[libc, "/usr/lib/libjemalloc.so.2"],
                Some(Runtime::Jemalloc),
            ),
            (
                "ceph-osd",
                "/usr/bin/ceph-osd",
                &["/usr/lib/libtcmalloc.so.4", libc],
                Some(Runtime::Tcmalloc),
            ),
            ("api", "/app/api", &["[anon: Go: heap]"], Some(Runtime::Go)),
            // Static, stripped, on a kernel without names of mappings.
            (
                "api",
                "/app/api",
                &["[linked: go]", "/app/api"],
                Some(Runtime::Go),
            ),
            // With cgo the C library is there too; and its name says nothing.
            (
                "node",
                "/app/node",
                &["[linked: go]", libc],
                Some(Runtime::Go),
            ),
            (
                "renamed",
                "/app/server",
                &["[linked: node]", libc],
                Some(Runtime::Node),
            ),
            (
                "renamed",
                "/app/tool",
                &["[linked: python]", libc],
                Some(Runtime::Python),
            ),
            (
                "redis-server",
                "/usr/local/bin/redis-server",
                &["[linked: jemalloc]", libc],
                Some(Runtime::Jemalloc),
            ),
            // Started by a wrapper, `exec -a myservice java`.
            (
                "java",
                "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
                &[
                    "/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so",
                    libc,
                ],
                Some(Runtime::Jvm),
            ),
            // A virtual environment's link leads to the real program.
            (
                "python",
                "/usr/bin/python3.11",
                &["/usr/lib/libpython3.11.so.1.0", libc],
                Some(Runtime::Python),
            ),
            ("nginx", "/usr/sbin/nginx", &[libc], Some(Runtime::Glibc)),
            ("nginx", "/usr/sbin/nginx", &[], None),
            ("pythonic", "/opt/javascript", &[], None),
            ("", "", &[], None),
        ] {
            assert_eq!(of(comm, exe, mapped), told, "{comm} {exe}");
        }
    }

    #[test]
    fn advice_has_the_id_and_is_said_in_both_languages() {
        for runtime in Runtime::ALL.map(Some).into_iter().chain([None]) {
            let lines = advice(runtime, Some(15234));
            assert!(!lines.is_empty(), "{runtime:?}");
            for line in lines {
                // What is typed is the same in both.
                let typed = |text: &str| -> Vec<String> {
                    text.split('`')
                        .skip(1)
                        .step_by(2)
                        .map(str::to_owned)
                        .collect()
                };
                assert_eq!(typed(&line.en), typed(&line.zh), "{}", line.en);
                assert!(!line.en.contains("PID"), "{}", line.en);
            }
        }
        let java: Vec<String> = advice(Some(Runtime::Jvm), Some(15234))
            .into_iter()
            .map(|line| line.en)
            .collect();
        let java = java.join("\n");
        for typed in [
            "`jcmd 15234 GC.class_histogram`",
            "`jcmd 15234 VM.native_memory summary`",
            "`jmap -dump:live,format=b,file=/tmp/heap.hprof 15234`",
        ] {
            assert!(java.contains(typed), "{typed}: {java}");
        }
        assert!(advice(None, None)[0].en.contains("heaptrack -p PID"));
    }
}
