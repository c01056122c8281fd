//! One test that passes, and four that must fail.
#![no_std]

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn passes() {
        let all: Vec<u32> = (0..1_000).collect();
        assert_eq!(all.iter().sum::<u32>(), 499_500);
    }

    #[test]
    fn fails() {
        assert_eq!(1 + 1, 3);
    }

    #[test]
    #[should_panic(expected = "nothing")]
    fn does_not_panic() {}

    #[test]
    #[should_panic(expected = "this")]
    fn panics_with_something_else() {
        panic!("that");
    }

    #[test]
    fn returns_an_error() -> Result<(), &'static str> {
        Err("no")
    }
}
