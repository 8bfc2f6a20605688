// Keys and values in 8 bits: e4m3 (a sign, 4 bits of exponent, 3 of mantissa, no infinity, largest
// value 448), with one f32 scale per token and head; a head with a value that is not finite has a
// scale that is not a number. A block per token, of a multiple of 32 threads.

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

template <int N>
__device__ void pack_row(const bf16* x, unsigned char* out, float* scales, int heads,
                         int head_dim) {
    int lanes = lanes_for<N>(head_dim), lane = threadIdx.x % lanes;
    // Threads without a head stay for the maxima of their warp.
    for (int first = 0; first < heads; first += blockDim.x / lanes) {
        int head = first + threadIdx.x / lanes;
        const bf16* from = x + min(head, heads - 1) * head_dim;
        float largest = 0.0f, broken = 0.0f;
        for (int i = lane * N; i < head_dim; i += lanes * N) {
            float v[N];
            load(from + i, v);
#pragma unroll
            for (int j = 0; j < N; j++) {
                largest = fmaxf(largest, fabsf(v[j]));
                broken = isfinite(v[j]) ? broken : 1.0f;
            }
        }
        largest = group_max(largest, lanes);
        broken = group_max(broken, lanes);
        if (head >= heads) return;
        float scale = largest > 0.0f ? largest / 448.0f : 1.0f;
        // What is not finite shows: in all that is computed with it.
        if (broken > 0.0f) scale = __uint_as_float(0x7fc00000);
        if (lane == 0) scales[head] = scale;
        for (int i = lane * N; i < head_dim; i += lanes * N) {
            float v[N];
            u32 codes[N / 2];
            load(from + i, v);
#pragma unroll
            for (int j = 0; j < N / 2; j++) {
                codes[j] = to_e4m3x2(v[2 * j] / scale, v[2 * j + 1] / scale);
            }
            unsigned char* to = out + head * head_dim + i;
            if constexpr (N == 8) {
                *(uint2*)to = make_uint2(codes[0] | codes[1] << 16, codes[2] | codes[3] << 16);
            } else {
                *(unsigned short*)to = (unsigned short)codes[0];
            }
        }
    }
}

// New keys and values k, v [rows, heads, head_dim], behind the first `offset` rows of their caches:
// codes [.., heads, head_dim] and scales [.., heads], which map the largest magnitude of a head to
// 448. `advance`, if not null, is by how many rows a replayed launch comes later. head_dim is even.
// Grid: (rows, 2): keys, then values.
extern "C" __global__ void append_fp8(const bf16* k, const bf16* v, unsigned char* key_codes,
                                      float* key_scales, unsigned char* value_codes,
                                      float* value_scales, i64 offset, const u32* advance,
                                      int heads, int head_dim) {
    i64 row = offset + blockIdx.x + (advance ? *advance : 0);
    const bf16* x = (blockIdx.y ? v : k) + (i64)blockIdx.x * heads * head_dim;
    unsigned char* codes = (blockIdx.y ? value_codes : key_codes) + row * heads * head_dim;
    float* scales = (blockIdx.y ? value_scales : key_scales) + row * heads;
    head_dim % 8 ? pack_row<2>(x, codes, scales, heads, head_dim)
                 : pack_row<8>(x, codes, scales, heads, head_dim);
}

template <int N>
__device__ void unpack_row(const unsigned char* x, const float* scales, bf16* out, int heads,
                           int head_dim) {
    for (int i = threadIdx.x * N; i < heads * head_dim; i += blockDim.x * N) {
        float v[N], scale = scales[i / head_dim];
        u32 codes[N / 2];
        if constexpr (N == 8) {
            uint2 raw = *(const uint2*)(x + i);
            codes[0] = raw.x, codes[1] = raw.x >> 16, codes[2] = raw.y, codes[3] = raw.y >> 16;
        } else {
            codes[0] = *(const unsigned short*)(x + i);
        }
#pragma unroll
        for (int j = 0; j < N; j++) {
            v[j] = from_e4m3((unsigned char)(codes[j / 2] >> (j % 2 * 8))) * scale;
        }
        store(out + i, v);
    }
}

// The inverse: out [rows, heads, head_dim] = x * scales. Grid: rows.
extern "C" __global__ void unpack_fp8(const unsigned char* x, const float* scales, bf16* out,
                                      int heads, int head_dim) {
    i64 at = (i64)blockIdx.x * heads;
    x += at * head_dim, out += at * head_dim, scales += at;
    head_dim % 8 ? unpack_row<2>(x, scales, out, heads, head_dim)
                 : unpack_row<8>(x, scales, out, heads, head_dim);
}
