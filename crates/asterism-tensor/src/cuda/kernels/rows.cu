// Everything of a decoder layer that is neither a matrix product nor attention, a block per row.
// Blocks have any multiple of 32 threads. Rows whose width is a multiple of 8 are read and written
// 16 bytes at a time, so buffers start at multiples of 16 bytes; others go element by element.

template <int N>
__device__ void embed_row(const bf16* from, float* to, int hidden) {
    for (int i = threadIdx.x * N; i < hidden; i += blockDim.x * N) {
        float x[N];
        load(from + i, x);
        store(to + i, x);
    }
}

// x [rows, hidden] = the rows `tokens [rows]` of table [vocab, hidden]; of a token that is not
// below vocab, the last. Grid: rows.
extern "C" __global__ void embed(const bf16* table, const u32* tokens, float* x, int hidden,
                                 u32 vocab) {
    const bf16* from = table + (i64)min(tokens[blockIdx.x], vocab - 1) * hidden;
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

// The heads of one row of qkv, each by a group of lanes: RMS norm where there is a weight, then the
// rotation of the pairs (i, i + head_dim / 2).
template <int N>
__device__ void split_rotate_row(const bf16* qkv, const float* angles, const float* q_norm,
                                 const float* k_norm, float eps, bf16* q, bf16* k, bf16* v,
                                 int heads, int kv_heads, int head_dim) {
    int half = head_dim / 2, all = heads + 2 * kv_heads;
    int lanes = lanes_for<N>(half), lane = threadIdx.x % lanes;
    // Threads without a head stay for the sums of their warp.
    for (int first = 0; first < all; first += blockDim.x / lanes) {
        int head = first + threadIdx.x / lanes;
        const bf16* from = qkv + min(head, all - 1) * head_dim;
        bool is_q = head < heads, is_k = !is_q && head < heads + kv_heads;
        const float* norm = is_q ? q_norm : is_k ? k_norm : nullptr;
        float inverse = 1.0f;
        if (q_norm || k_norm) {
            float squares = 0.0f;
            for (int i = lane * N; i < head_dim; i += lanes * N) {
                float x[N];
                load(from + i, x);
#pragma unroll
                for (int j = 0; j < N; j++) squares += x[j] * x[j];
            }
            inverse = 1.0f / sqrtf(group_sum(squares, lanes) / head_dim + eps);
        }
        if (head >= all) return;
        bf16* to = is_q   ? q + head * head_dim
                   : is_k ? k + (head - heads) * head_dim
                          : v + (head - heads - kv_heads) * head_dim;
        for (int i = lane * N; i < half; i += lanes * N) {
            float x[N], y[N];
            load(from + i, x);
            load(from + half + i, y);
            if (norm) {
                float a[N], b[N];
                load(norm + i, a);
                load(norm + half + i, b);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    x[j] = x[j] * inverse * a[j];
                    y[j] = y[j] * inverse * b[j];
                }
            }
            if (is_q || is_k) {
                float cosine[N], sine[N];
                load(angles + i, cosine);
                load(angles + half + i, sine);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    float turned = x[j] * cosine[j] - y[j] * sine[j];
                    y[j] = y[j] * cosine[j] + x[j] * sine[j];
                    x[j] = turned;
                }
            }
            store(to + i, x);
            store(to + half + i, y);
        }
    }
}

// Takes the rows of qkv [rows, (heads + 2 kv_heads) * head_dim] apart into q [rows, heads,
// head_dim] and k, v [rows, kv_heads, head_dim]; normalises the heads of q and of k if the model
// does (a null weight: it does not), and rotates them by angles [rows, head_dim]. Grid: rows.
extern "C" __global__ void split_rotate(const bf16* qkv, const float* angles, const float* q_norm,
                                        const float* k_norm, float eps, bf16* q, bf16* k, bf16* v,
                                        int heads, int kv_heads, int head_dim) {
    i64 row = blockIdx.x;
    qkv += row * (heads + 2 * kv_heads) * head_dim;
    angles += row * head_dim;
    q += row * heads * head_dim;
    k += row * kv_heads * head_dim;
    v += row * kv_heads * head_dim;
    head_dim % 16 ? split_rotate_row<1>(qkv, angles, q_norm, k_norm, eps, q, k, v, heads, kv_heads,
                                        head_dim)
                  : split_rotate_row<8>(qkv, angles, q_norm, k_norm, eps, q, k, v, heads, kv_heads,
                                        head_dim);
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

// sums [width] += the rows of x [rows, width], in their order; from 0 on if `first`. A thread for
// each element.
extern "C" __global__ void add_rows(const float* x, float* sums, int rows, i64 width, int first) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= width) return;
    float all = first ? 0.0f : sums[i];
    for (int row = 0; row < rows; row++) all += x[row * width + i];
    sums[i] = all;
}
