//! Prints what is read in a file, without limits: for looking at what a reader does.

use asterism_documents::{Kind, Limits, parse};

fn main() {
    let path = std::env::args().nth(1).expect("a path");
    let bytes = std::fs::read(&path).expect("file");
    let parsed = parse(Kind::of_name(&path), &bytes, None, &Limits::default()).expect("read");
    print!("{}", parsed.text);
    eprintln!("{:?}", parsed.notes);
}
