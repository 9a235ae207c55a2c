//! What program a process runs: of an interpreter not itself, but the script, the module, the jar.

use super::Who;

/// Options of interpreters that take the next argument as their value.
const WITH_VALUE: [&str; 26] = [
    "-W",
    "-X",
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--add-modules",
    "--add-opens",
    "--add-exports",
    "--add-reads",
    "--upgrade-module-path",
    "--limit-modules",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "--conditions",
    "-C",
    "-r",
    "-I",
    "-d",
    "-z",
    "--runtimeconfig",
    "--depsfile",
    "-S",
];
/// Arguments that name what runs by the next one.
const NAMING: [&str; 5] = ["-m", "-jar", "--module", "-f", "--file"];
/// Arguments behind which the program itself stands.
const CODE: [&str; 4] = ["-c", "-e", "--eval", "--print"];

/// Which family of interpreters a name is of.
fn family(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    let name = name.rsplit('/').next().unwrap_or(name);
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || ".-".contains(c));
    Some(match stem {
        "python" | "pypy" => "python",
        "java" => "java",
        "node" | "nodejs" | "deno" | "bun" => "node",
        "ruby" | "jruby" => "ruby",
        "perl" => "perl",
        "php" | "php-cgi" => "php",
        "sh" | "bash" | "dash" | "zsh" | "ksh" | "busybox" => "shell",
        "dotnet" | "mono" => "dotnet",
        "lua" | "luajit" | "Rscript" | "R" | "guile" | "tclsh" => "other",
        _ => return None,
    })
}

fn interpreter(who: &Who) -> Option<&'static str> {
    let by_path = who.exe.as_deref().map(family);
    // The path tells; a name or an argument may be anything, and stands for it where it is not known.
    by_path.unwrap_or_else(|| {
        let first = who
            .cmdline
            .as_deref()
            .and_then(|line| line.split_whitespace().next());
        first
            .and_then(family)
            .or_else(|| family(who.comm.as_deref()?))
    })
}

/// Whether it is an interpreter that runs something else.
pub(super) fn is_interpreter(who: &Who) -> bool {
    interpreter(who).is_some()
}

/// What an interpreter runs: script, module, jar, main class, or the code itself. `None`: it is none, or its arguments
/// do not tell.
fn script(who: &Who) -> Option<&str> {
    let family = interpreter(who)?;
    let line = who.cmdline.as_deref()?;
    let mut arguments = line.split_whitespace().skip(1);
    while let Some(argument) = arguments.next() {
        let at = argument.as_ptr().addr() - line.as_ptr().addr();
        // java and dotnet have no code among their arguments; of java, -m is a module as well.
        if CODE.contains(&argument) && !["java", "dotnet"].contains(&family) {
            return Some(&line[at..]);
        }
        if NAMING.contains(&argument) {
            return arguments.next();
        }
        if WITH_VALUE.contains(&argument) {
            arguments.next();
        } else if !(argument.starts_with('-') || family == "node" && argument == "run") {
            return Some(argument);
        }
    }
    None
}

/// The service of a cgroup, those of one template alike; `None`: it is no service.
fn service(cgroup: &str) -> Option<&str> {
    let unit = cgroup
        .rsplit('/')
        .find_map(|part| part.strip_suffix(".service"))?;
    Some(unit.split('@').next().unwrap_or(unit))
}

/// Whether two run the same program, as far as it can be told: name and path, of interpreters what they run. Scripts of
/// one name in two services are two programs, and in two cgroups the same arguments are needed: one script may run
/// many things.
pub(super) fn same(one: &Who, other: &Who) -> bool {
    if one.comm != other.comm || one.exe != other.exe {
        return false;
    }
    if !is_interpreter(one) {
        return true;
    }
    let cgroups = one.cgroup.as_deref().zip(other.cgroup.as_deref());
    let services = cgroups.and_then(|(one, other)| service(one).zip(service(other)));
    if services.is_some_and(|(one, other)| one != other) {
        return false;
    }
    let apart = cgroups.is_some_and(|(one, other)| one != other);
    let lines = one.cmdline.as_deref().zip(other.cmdline.as_deref());
    match lines {
        Some((one, other)) if apart && one != other => return false,
        Some(_) => {}
        // Nothing tells what they run.
        None => return false,
    }
    script(one) == script(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(exe: &str, cmdline: &str, cgroup: &str) -> Who {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Who {
            comm: Some("it".to_owned()),
            exe: text(exe),
            cmdline: text(cmdline),
            cgroup: text(cgroup),
            ..Who::default()
        }
    }

    #[test]
    fn of_an_interpreter_what_it_runs_is_the_program() {
        let of = |exe: &str, cmdline: &str| {
            let who = who(exe, cmdline, "");
            script(&who).map(str::to_owned)
        };
        for (exe, cmdline, wanted) in [
            (
                "/usr/bin/python3.12",
                "python3 -u a.py --port 1",
                Some("a.py"),
            ),
            (
                "/usr/bin/python3.12",
                "python3 -W ignore -m shop.web",
                Some("shop.web"),
            ),
            (
                "/usr/bin/python3.12",
                "python3 -c import a; a.run()",
                Some("-c import a; a.run()"),
            ),
            (
                "/usr/lib/jvm/bin/java",
                "java -Xmx1g -cp a:b com.shop.Main x",
                Some("com.shop.Main"),
            ),
            (
                "/usr/lib/jvm/bin/java",
                "java -Xmx1g -jar /srv/a.jar",
                Some("/srv/a.jar"),
            ),
            (
                "/usr/bin/node",
                "node --require dd-trace /srv/x.js",
                Some("/srv/x.js"),
            ),
            (
                "/usr/bin/node",
                "node --max-old-space-size=512 x.js",
                Some("x.js"),
            ),
            ("/usr/bin/dotnet", "dotnet /srv/a.dll", Some("/srv/a.dll")),
            ("/usr/bin/bash", "bash", None),
            ("/usr/sbin/nginx", "nginx: worker process", None),
        ] {
            assert_eq!(of(exe, cmdline).as_deref(), wanted, "{cmdline}");
        }
        // Without a path the first argument tells, then the name.
        assert_eq!(of("", "/usr/bin/python3 a.py").as_deref(), Some("a.py"));
        assert!(!is_interpreter(&who(
            "/usr/bin/java-service",
            "java -jar a",
            ""
        )));
        assert!(is_interpreter(&who(
            "/usr/bin/python3.11 (deleted)",
            "",
            ""
        )));
    }

    #[test]
    fn scripts_of_one_interpreter_are_not_the_same_program() {
        let python = |script: &str, cgroup: &str| {
            who("/usr/bin/python3.12", &format!("python3 {script}"), cgroup)
        };
        assert!(!same(&python("a.py", "/x"), &python("b.py", "/x")));
        assert!(same(&python("a.py 1", "/x"), &python("a.py 2", "/x")));
        // One launcher runs two applications: cgroup and arguments tell.
        let (one, other) = (
            python("/bin/gunicorn a", "/x"),
            python("/bin/gunicorn b", "/y"),
        );
        assert!(!same(&one, &other));
        assert!(same(&one, &python("/bin/gunicorn a", "/y")));
        let (one, other) = (
            python("main.py", "/system.slice/a.service"),
            python("main.py", "/system.slice/b.service"),
        );
        assert!(!same(&one, &other));
        assert!(same(
            &python("main.py", "/system.slice/system-a.slice/a@1.service"),
            &python("main.py", "/system.slice/system-a.slice/a@2.service")
        ));
        // Nothing tells what they run.
        let java = || who("/usr/bin/java", "", "");
        assert!(!same(&java(), &java()));
        // Who is no interpreter is the program, whatever its arguments are.
        let worker = |n: u32| who("/srv/worker", &format!("worker {n}"), "");
        assert!(same(&worker(1), &worker(2)));
    }
}
