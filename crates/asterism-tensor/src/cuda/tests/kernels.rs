//! Compiling and launching kernels.

use super::super::{Buffer, CudaError, Module, compile};
use super::{device, numbers, random};

const SOURCE: &str = r#"
extern "C" __global__ void scale(float *out, const float *in, float factor, unsigned n) {
    extern __shared__ float staged[];
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    staged[STAGE + threadIdx.x] = i < n ? in[i] : 0.0f;
    __syncthreads();
    if (i < n) out[i] = factor * staged[STAGE + threadIdx.x];
}
"#;

#[test]
fn sources_compile_without_a_gpu() {
    match compile("scale.cu", SOURCE, "sm_90a", &["-DSTAGE=0"]) {
        Err(CudaError::Missing(missing)) => println!("skipped: {missing}"),
        code => assert_eq!(code.unwrap()[..4], *b"\x7fELF"),
    }
}

#[test]
fn a_source_that_does_not_compile_gives_the_log() {
    match compile("broken.cu", "__global__ void f() { undeclared; }", "sm_90a", &[]) {
        Err(CudaError::Missing(missing)) => println!("skipped: {missing}"),
        Err(error @ CudaError::Compile { .. }) => {
            let text = error.to_string();
            assert!(text.contains("broken.cu") && text.contains("undeclared"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn kernels_run_with_more_shared_memory_than_the_default() {
    let Some(device) = device() else { return };
    let module = Module::compile(&device, "scale.cu", SOURCE, &["-DSTAGE=20000"]).unwrap();
    let scale = module.function(c"scale").unwrap();
    assert!(module.function(c"absent").is_err());
    let data = numbers(&mut random(), 10_001, 1.0);
    let input = Buffer::from_slice(&device, &data).unwrap();
    let mut output = super::poisoned::<f32>(&device, data.len());
    let n = data.len() as u32;
    // SAFETY: the kernel's parameters in order; it stays below n and inside its shared memory.
    #[allow(unsafe_code)]
    unsafe {
        let (grid, block, shared) = ([n.div_ceil(256), 1, 1], [256, 1, 1], (20_000 + 256) * 4);
        let arguments: &[&dyn super::super::Argument] =
            &[&output.view_mut(), &input.view(), &2.5f32, &n];
        scale.launch(grid, block, shared, arguments).unwrap();
    }
    let expected: Vec<f32> = data.iter().map(|x| 2.5 * x).collect();
    assert_eq!(output.to_vec().unwrap(), expected);
}
