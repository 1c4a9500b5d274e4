//! Shared memory.

use crate::stage::Stage;

pub fn shared_memory_outlives_its_runtime_and_another_length_starts_anew(stage: Stage) {
    let path = stage.path("arena");
    let memory = stage.io.open_shared_memory(&path, 8192).unwrap();
    let mut bytes = [1; 16];
    memory.copy_out(8176, &mut bytes);
    assert_eq!(bytes, [0; 16], "new memory is zeroed");
    memory.copy_in(8176, b"acknowledged now");
    memory.publish_fence();
    drop(memory);
    let stage = stage.restart();
    let memory = stage.io.existing_shared_memory(&path).unwrap().expect("it is still there");
    assert_eq!(memory.len(), 8192);
    memory.copy_out(8176, &mut bytes);
    assert_eq!(&bytes, b"acknowledged now");
    let same = stage.io.open_shared_memory(&path, 8192).unwrap();
    same.copy_out(8176, &mut bytes);
    assert_eq!(&bytes, b"acknowledged now");
    let other = stage.io.open_shared_memory(&path, 16384).unwrap();
    other.copy_out(8176, &mut bytes);
    assert_eq!(bytes, [0; 16]);
    memory.copy_out(8176, &mut bytes);
    assert_eq!(&bytes, b"acknowledged now", "an old handle keeps the old memory");
}

pub fn absent_shared_memory_is_none_and_removal_of_it_is_fine(stage: Stage) {
    let path = stage.path("arena");
    assert!(stage.io.existing_shared_memory(&path).unwrap().is_none());
    stage.io.remove_shared_memory(&path).unwrap();
    drop(stage.io.open_shared_memory(&path, 4096).unwrap());
    stage.io.remove_shared_memory(&path).unwrap();
    assert!(stage.io.existing_shared_memory(&path).unwrap().is_none());
    assert!(stage.io.open_shared_memory(&path, 0).is_err());
}
