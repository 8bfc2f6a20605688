use super::*;
use std::sync::Arc;

/// The library, where the machine has one.
fn library() -> Option<Arc<Library>> {
    match Library::load() {
        Ok(library) => Some(Arc::new(library)),
        Err(error @ NcclError::Missing { .. }) => {
            println!("not run: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn it_tells_its_version_and_makes_ids_without_a_gpu() {
    let Some(library) = library() else { return };
    let Found { version, path } = library.found();
    println!("NCCL {version}, {}", path.display());
    assert!(version.major == 2 && version.minor >= 18, "{version}");
    assert!(path.is_file(), "{}", path.display());
    let [one, other] = [(); 2].map(|()| library.new_id().unwrap());
    assert_ne!(one, other);
    assert_eq!(Id::of(one.bytes()), Some(one));
    assert_eq!(Id::of(&one.bytes()[1..]), None);
}

#[test]
fn errors_have_the_librarys_own_words() {
    let Some(library) = library() else { return };
    assert_eq!(library.check("ncclSend", 0), Ok(()));
    assert_eq!(library.check("ncclSend", 7), Ok(()));
    let error = library.check("ncclSend", 4).unwrap_err().to_string();
    assert!(error.starts_with("ncclSend failed with code 4: invalid argument"), "{error}");
}

#[test]
fn what_is_no_library_of_nccl_is_refused_by_name() {
    for (name, why) in [
        ("/etc/hostname", "/etc/hostname"),
        ("libc.so.6", "it has no ncclGetVersion"),
        ("/nowhere/libnccl.so.2", "No such file"),
    ] {
        let error = Library::open(name.as_ref()).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains(why), "{error}");
    }
}
