//! main > Store::<u8>::insert > memset, which faults.

unsafe extern "C" {
    fn untouchable(size: usize) -> *mut u8;
    fn memset(to: *mut u8, value: i32, size: usize) -> *mut u8;
}

pub struct Store<T> {
    kept: Vec<T>,
}

impl<T: From<u8>> Store<T> {
    #[inline(never)]
    pub fn insert(&mut self, size: usize) {
        let size = std::hint::black_box(size);
        unsafe { memset(untouchable(size), 1, size) };
        self.kept.push(T::from(1));
    }
}

fn main() {
    let mut store = Store::<u16> { kept: Vec::new() };
    store.insert(std::env::args().count() * 8000);
    println!("{}", store.kept.len());
}
