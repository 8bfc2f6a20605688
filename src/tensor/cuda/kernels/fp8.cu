// Keys and values in 8 bits: e4m3 (a sign, 4 bits of exponent, 3 of mantissa, no infinity, largest
// value 448), with one f32 scale per token and head. A block per token, a warp per head.

// The two nearest e4m3 values (ties to even, beyond 448 to 448), `low` in the lower byte.
__device__ unsigned short to_e4m3x2_portable(float low, float high) {
    u32 pair = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        u32 bits = __float_as_uint(i ? high : low);
        u32 sign = bits >> 24 & 0x80, code;
        bits &= 0x7fffffff;
        if (bits > 0x7f800000) {
            code = 0x7f; // not a number
        } else if (bits < (127 - 6) << 23) {
            code = (u32)__float2int_rn(__uint_as_float(bits) * 512.0f); // multiples of 2^-9
        } else {
            bits += 0x7ffff + (bits >> 20 & 1); // keep 3 bits of mantissa
            code = min((bits >> 20) - ((127 - 7) << 3), 0x7eu);
        }
        pair |= (sign | code) << (8 * i);
    }
    return (unsigned short)pair;
}

__device__ __forceinline__ unsigned short to_e4m3x2(float low, float high) {
#if __CUDA_ARCH__ >= 890 && !defined(PORTABLE_FP8)
    unsigned short pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return to_e4m3x2_portable(low, high);
#endif
}

__device__ __forceinline__ float from_e4m3(unsigned char code) {
    u32 magnitude = code & 0x7f;
    // Shifted into place the exponent is 120 too small, also for the smallest values.
    float x = __uint_as_float(magnitude << 20) * 0x1p120f;
    if (magnitude == 0x7f) x = __uint_as_float(0x7fc00000);
    return code & 0x80 ? -x : x;
}

// out [rows, heads, head_dim] and scales [rows, heads] of x [rows, heads, head_dim]: the scale maps
// the largest magnitude of a head to 448. head_dim is even. Grid: rows.
extern "C" __global__ void pack_fp8(const bf16* x, unsigned char* out, float* scales, int heads,
                                    int head_dim) {
    int lane = threadIdx.x % 32;
    for (int head = threadIdx.x / 32; head < heads; head += blockDim.x / 32) {
        i64 at = (i64)blockIdx.x * heads + head;
        const u32* from = (const u32*)(x + at * head_dim);
        unsigned short* to = (unsigned short*)(out + at * head_dim);
        float largest = 0.0f;
        for (int i = lane; i < head_dim / 2; i += 32) {
            u32 pair = from[i];
            largest = fmaxf(largest, fabsf(widen((bf16)pair)));
            largest = fmaxf(largest, fabsf(widen((bf16)(pair >> 16))));
        }
        largest = warp_max(largest);
        float scale = largest > 0.0f ? largest / 448.0f : 1.0f;
        for (int i = lane; i < head_dim / 2; i += 32) {
            u32 pair = from[i];
            to[i] = to_e4m3x2(widen((bf16)pair) / scale, widen((bf16)(pair >> 16)) / scale);
        }
        if (lane == 0) scales[at] = scale;
    }
}

// The inverse: out [rows, heads, head_dim] = x * scales. Grid: rows.
extern "C" __global__ void unpack_fp8(const unsigned char* x, const float* scales, bf16* out,
                                      int heads, int head_dim) {
    int lane = threadIdx.x % 32;
    for (int head = threadIdx.x / 32; head < heads; head += blockDim.x / 32) {
        i64 at = (i64)blockIdx.x * heads + head;
        const unsigned short* from = (const unsigned short*)(x + at * head_dim);
        u32* to = (u32*)(out + at * head_dim);
        float scale = scales[at];
        for (int i = lane; i < head_dim / 2; i += 32) {
            unsigned short pair = from[i];
            float low = from_e4m3((unsigned char)pair), high = from_e4m3((unsigned char)(pair >> 8));
            to[i] = narrow2(low * scale, high * scale);
        }
    }
}
