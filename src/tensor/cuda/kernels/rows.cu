// Everything of a decoder layer that is neither a matrix product nor attention, a block per row.
// Blocks have any multiple of 32 threads. Rows whose width is a multiple of 8 are read and written
// 16 bytes at a time, so buffers start at multiples of 16 bytes; other widths go element by element.

template <int N>
__device__ void embed_row(const bf16* from, float* to, int hidden) {
    for (int i = threadIdx.x * N; i < hidden; i += blockDim.x * N) {
        float x[N];
        load(from + i, x);
        store(to + i, x);
    }
}

// x [rows, hidden] = the rows `tokens [rows]` of table [vocab, hidden]. Grid: rows.
extern "C" __global__ void embed(const bf16* table, const u32* tokens, float* x, int hidden) {
    const bf16* from = table + (i64)tokens[blockIdx.x] * hidden;
    float* to = x + (i64)blockIdx.x * hidden;
    hidden % 8 ? embed_row<1>(from, to, hidden) : embed_row<8>(from, to, hidden);
}

// out [rows, head_dim]: cosines of the angles of a row's pairs, then their sines. Grid: rows.
// The angle is a product in f32, as on the CPU; its sine is taken in f64, which no angle is too
// large for.
extern "C" __global__ void angles(const float* inverse_frequencies, const u32* positions,
                                  float* out, int head_dim) {
    float* row = out + (i64)blockIdx.x * head_dim;
    float position = (float)positions[blockIdx.x];
    for (int i = threadIdx.x; i < head_dim / 2; i += blockDim.x) {
        double sine, cosine;
        sincos((double)__fmul_rn(position, inverse_frequencies[i]), &sine, &cosine);
        row[i] = (float)cosine;
        row[head_dim / 2 + i] = (float)sine;
    }
}

template <int N>
__device__ void rms_norm_row(const float* x, const float* weight, float eps, bf16* out, int width) {
    float squares = 0.0f;
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float v[N];
        load(x + i, v);
#pragma unroll
        for (int j = 0; j < N; j++) squares += v[j] * v[j];
    }
    float inverse = 1.0f / sqrtf(block_sum(squares) / width + eps);
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float v[N], w[N];
        load(x + i, v); // still in the first-level cache
        load(weight + i, w);
#pragma unroll
        for (int j = 0; j < N; j++) v[j] = v[j] * inverse * w[j];
        store(out + i, v);
    }
}

// out [rows, width] = x / rms(x) * weight. Grid: rows.
extern "C" __global__ void rms_norm(const float* x, const float* weight, float eps, bf16* out,
                                    int width) {
    x += (i64)blockIdx.x * width;
    out += (i64)blockIdx.x * width;
    width % 8 ? rms_norm_row<1>(x, weight, eps, out, width)
              : rms_norm_row<8>(x, weight, eps, out, width);
}

// One head, by one warp: RMS norm where there is a weight, then the rotation of the pairs
// (i, i + head_dim / 2).
__device__ void rotate_head(const bf16* from, const float* cosines, const float* norm, float eps,
                            bf16* to, int head_dim) {
    int lane = threadIdx.x % 32, half = head_dim / 2;
    float inverse = 1.0f;
    if (norm) {
        float squares = 0.0f;
        for (int i = lane; i < head_dim; i += 32) squares += widen(from[i]) * widen(from[i]);
        inverse = 1.0f / sqrtf(warp_sum(squares) / head_dim + eps);
    }
    for (int i = lane; i < half; i += 32) {
        float x = widen(from[i]), y = widen(from[half + i]);
        if (norm) {
            x = x * inverse * norm[i];
            y = y * inverse * norm[half + i];
        }
        float cosine = cosines[i], sine = cosines[half + i];
        to[i] = narrow(x * cosine - y * sine);
        to[half + i] = narrow(y * cosine + x * sine);
    }
}

// Takes the rows of qkv [rows, (heads + 2 kv_heads) * head_dim] apart into q [rows, heads, head_dim]
// and k, v [rows, kv_heads, head_dim]; normalises the heads of q and of k if the model does (a null
// weight: it does not), and rotates them by angles [rows, head_dim]. Grid: rows. A warp per head.
extern "C" __global__ void split_rotate(const bf16* qkv, const float* angles, const float* q_norm,
                                        const float* k_norm, float eps, bf16* q, bf16* k, bf16* v,
                                        int heads, int kv_heads, int head_dim) {
    i64 row = blockIdx.x;
    qkv += row * (heads + 2 * kv_heads) * head_dim;
    angles += row * head_dim;
    q += row * heads * head_dim;
    k += row * kv_heads * head_dim;
    v += row * kv_heads * head_dim;
    for (int head = threadIdx.x / 32; head < heads + 2 * kv_heads; head += blockDim.x / 32) {
        const bf16* from = qkv + head * head_dim;
        if (head < heads) {
            rotate_head(from, angles, q_norm, eps, q + head * head_dim, head_dim);
        } else if (head < heads + kv_heads) {
            rotate_head(from, angles, k_norm, eps, k + (head - heads) * head_dim, head_dim);
        } else {
            bf16* to = v + (head - heads - kv_heads) * head_dim;
            for (int i = threadIdx.x % 32; i < head_dim; i += 32) to[i] = from[i];
        }
    }
}

template <int N>
__device__ void silu_mul_row(const bf16* gate, const bf16* up, bf16* out, int width) {
    int first = (blockIdx.y * blockDim.x + threadIdx.x) * N;
    for (int i = first; i < width; i += gridDim.y * blockDim.x * N) {
        float g[N], u[N];
        load(gate + i, g);
        load(up + i, u);
#pragma unroll
        for (int j = 0; j < N; j++) g[j] = g[j] / (1.0f + __expf(-g[j])) * u[j];
        store(out + i, g);
    }
}

// out [rows, width] = silu(gate) * up, of gate_up [rows, 2 * width]. Grid: (rows, parts of a row).
extern "C" __global__ void silu_mul(const bf16* gate_up, bf16* out, int width) {
    const bf16* gate = gate_up + (i64)blockIdx.x * 2 * width;
    out += (i64)blockIdx.x * width;
    width % 8 ? silu_mul_row<1>(gate, gate + width, out, width)
              : silu_mul_row<8>(gate, gate + width, out, width);
}

template <int N, typename T>
__device__ void add_bias_row(T* y, const float* bias, int width) {
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float v[N], b[N];
        load(y + i, v);
        load(bias + i, b);
#pragma unroll
        for (int j = 0; j < N; j++) v[j] += b[j];
        store(y + i, v);
    }
}

template <typename T>
__device__ void add_bias(T* y, const float* bias, int width) {
    y += (i64)blockIdx.x * width;
    width % 8 ? add_bias_row<1>(y, bias, width) : add_bias_row<8>(y, bias, width);
}

// Adds bias [width] to every row of y [rows, width]. Grid: rows.
extern "C" __global__ void add_bias_bf16(bf16* y, const float* bias, int width) {
    add_bias(y, bias, width);
}

// The same in f32.
extern "C" __global__ void add_bias_f32(float* y, const float* bias, int width) {
    add_bias(y, bias, width);
}
