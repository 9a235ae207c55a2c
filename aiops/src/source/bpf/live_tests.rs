#[test]
fn smoke() {
    let (sink, mut items) = tokio::sync::mpsc::unbounded_channel();
    let (lives, got) = std::sync::mpsc::channel();
    let verbose = std::env::var_os("V").is_some();
    let tracer = super::Tracer::start(&super::Options { verbose, btf: true }, sink, lives).unwrap();
    for h in tracer.hooks() { println!("{h:?}"); }
    std::thread::sleep(std::time::Duration::from_secs(2));
    tracer.flush();
    println!("{:?}", tracer.losses(0));
    while let Ok(i) = items.try_recv() { println!("{i:?}"); }
    for l in got.try_iter() { println!("{l:?}"); }
    println!("{:?}", tracer.stop());
}
