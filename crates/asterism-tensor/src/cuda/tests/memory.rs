//! Devices, buffers and views.

use super::super::kv::Kv;
use super::super::rows::RowKernels;
use super::super::{Buffer, CudaError, Device, Event};
use super::{device, halves, numbers, random};
use crate::{HeadShape, KvPrecision, Memory, Part};

#[test]
fn devices_are_counted_from_zero() {
    let Some(device) = device() else { return };
    let devices = Device::count().unwrap();
    let missing = Device::open(devices);
    assert!(
        matches!(missing, Err(CudaError::Ordinal { ordinal, devices: found })
            if ordinal == devices && found == devices),
        "{missing:?}"
    );
    let properties = device.properties();
    println!("{properties:?}, {}", properties.arch());
    assert!(properties.multiprocessors > 0 && properties.memory > 1 << 30);
    let (free, total) = device.memory().unwrap();
    assert!(free > 0 && free <= total);
}

#[test]
fn what_is_written_is_read_back() {
    let Some(device) = device() else { return };
    let mut random = random();
    let floats = numbers(&mut random, 100_003, 1.0);
    let halves = halves(&mut random, 1001, 1.0);
    let buffer = Buffer::from_slice(&device, &floats).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), floats);
    assert_eq!(buffer.slice(7..19).unwrap().to_vec().unwrap(), floats[7..19]);
    assert!(buffer.slice(7..100_004).is_err());
    assert_eq!(Buffer::from_slice(&device, &halves).unwrap().to_vec().unwrap(), halves);
    assert!(Buffer::<f32>::from_slice(&device, &[]).unwrap().to_vec().unwrap().is_empty());

    let mut copy = Buffer::<f32>::zeros(&device, 100).unwrap();
    copy.slice_mut(10..20).unwrap().copy_from(buffer.slice(50..60).unwrap()).unwrap();
    copy.slice_mut(90..92).unwrap().write(&[1.5, 2.5]).unwrap();
    let mut expected = vec![0.0; 100];
    expected[10..20].copy_from_slice(&floats[50..60]);
    expected[90..92].copy_from_slice(&[1.5, 2.5]);
    assert_eq!(copy.to_vec().unwrap(), expected);
    assert!(matches!(copy.view_mut().write(&[0.0]), Err(CudaError::Length { .. })));

    let other = Device::open(0).unwrap();
    let elsewhere = Buffer::<f32>::zeros(&other, 100).unwrap();
    let refused = copy.view_mut().copy_from(elsewhere.view());
    assert!(matches!(refused, Err(CudaError::OtherDevice { .. })), "{refused:?}");
}

#[test]
fn a_full_memory_is_an_error_that_names_the_bytes() {
    let Some(device) = device() else { return };
    let (_, total) = device.memory().unwrap();
    let refused = Buffer::<u8>::uninit(&device, 2 * total);
    let Err(CudaError::OutOfMemory { bytes, total: said, .. }) = refused else {
        panic!("took twice the memory there is");
    };
    assert_eq!((bytes, said), (2 * total, total));
    // The device works on.
    assert_eq!(Buffer::from_slice(&device, &[1u32, 2]).unwrap().to_vec().unwrap(), [1, 2]);
}

#[test]
fn several_threads_share_a_device() {
    let Some(device) = device() else { return };
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..50 {
                    let data = vec![thread * 1000 + round; 10_000];
                    let buffer = Buffer::from_slice(device, &data).unwrap();
                    let mut copy = Buffer::uninit(device, data.len()).unwrap();
                    copy.view_mut().copy_from(buffer.view()).unwrap();
                    drop(buffer);
                    assert_eq!(copy.to_vec().unwrap(), data);
                }
            });
        }
    });
    let start = Event::record(&device).unwrap();
    assert!(start.until(&Event::record(&device).unwrap()).unwrap().as_secs() < 1);
}

#[test]
fn keys_come_back_from_their_bytes() {
    let Some(device) = device() else { return };
    let (mut random, kernels) = (random(), RowKernels::compile(&device).unwrap());
    let shape = HeadShape { heads: 4, kv_heads: 2, head_dim: 64 };
    let width = shape.kv_width();
    for precision in [KvPrecision::Bf16, KvPrecision::Fp8] {
        let kv = || Kv::with_capacity(&device, precision, shape, 4 * width).unwrap();
        let (mut keys, mut values) = (kv(), kv());
        let new = Buffer::from_slice(&device, &halves(&mut random, 9 * width, 1.0)).unwrap();
        Kv::append(&kernels, [&mut keys, &mut values], [new.view(), new.view()]).unwrap();
        let stored = Kv::bytes_of(Part::new(&keys, width..6 * width)).unwrap();
        assert_eq!(stored.elements.len() + stored.scales.len(), 5 * precision.row_bytes(shape));
        // What is there stays in front.
        let mut again = kv();
        again.extend(Part::new(&keys, 0..width)).unwrap();
        again.extend_bytes(&stored).unwrap();
        assert_eq!(again.len(), 6 * width);
        let [expected, found] =
            [&keys, &again].map(|kv| Kv::bytes_of(Part::new(kv, 0..6 * width)).unwrap());
        assert_eq!(found, expected);
    }
}
