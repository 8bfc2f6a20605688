// In front of every kernel source: bf16 without cuda_bf16.h, and reductions over a warp or a block.
// NVRTC needs no header but this one.

typedef unsigned int u32;
typedef unsigned short bf16; // the upper half of an f32
typedef long long i64;       // indices: a buffer can have more than 2^31 elements

#define INFINITE __int_as_float(0x7f800000)

__device__ __forceinline__ float widen(bf16 x) { return __uint_as_float((u32)x << 16); }

// Rounds to nearest, ties to even.
__device__ __forceinline__ bf16 narrow(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

// Two values in one register, `low` at the lower address.
__device__ __forceinline__ u32 narrow2(float low, float high) {
    u32 y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

// N consecutive elements as f32. With N = 8 the address is a multiple of 16 bytes.
template <int N>
__device__ __forceinline__ void load(const bf16* from, float (&x)[N]) {
    if constexpr (N == 8) {
        uint4 raw = *(const uint4*)from;
        u32 pairs[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = widen((bf16)(pairs[i / 2] >> (i % 2 * 16)));
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = widen(from[i]);
    }
}

template <int N>
__device__ __forceinline__ void load(const float* from, float (&x)[N]) {
    if constexpr (N == 8) {
        float4 a = ((const float4*)from)[0], b = ((const float4*)from)[1];
        x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
        x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = from[i];
    }
}

template <int N>
__device__ __forceinline__ void store(bf16* to, const float (&x)[N]) {
    if constexpr (N == 8) {
        *(uint4*)to = make_uint4(narrow2(x[0], x[1]), narrow2(x[2], x[3]), narrow2(x[4], x[5]),
                                 narrow2(x[6], x[7]));
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = narrow(x[i]);
    }
}

template <int N>
__device__ __forceinline__ void store(float* to, const float (&x)[N]) {
    if constexpr (N == 8) {
        ((float4*)to)[0] = make_float4(x[0], x[1], x[2], x[3]);
        ((float4*)to)[1] = make_float4(x[4], x[5], x[6], x[7]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = x[i];
    }
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) x += __shfl_xor_sync(~0u, x, lanes);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int lanes = 16; lanes; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lanes));
    return x;
}

// How many lanes, a power of two, share a row of `width` elements with N or more each.
template <int N>
__device__ __forceinline__ int lanes_for(int width) {
    int lanes = 32;
    while (lanes > 1 && lanes / 2 * N >= width) lanes /= 2;
    return lanes;
}

// The same over groups of `lanes` lanes, for whole warps.
__device__ __forceinline__ float group_sum(float x, int lanes) {
    while (lanes /= 2) x += __shfl_xor_sync(~0u, x, lanes);
    return x;
}

__device__ __forceinline__ float group_max(float x, int lanes) {
    while (lanes /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lanes));
    return x;
}

// The sum over a block of up to 1024 threads (a multiple of 32), for all of them. Once per kernel.
__device__ __forceinline__ float block_sum(float x) {
    __shared__ float sums[32];
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    int lane = threadIdx.x % 32;
    return warp_sum(lane < blockDim.x / 32 ? sums[lane] : 0.0f);
}
