// What the queries and keys of a text are like: what scores of keys are made of.
//
// Macro: HEAD_DIM (a multiple of 16 up to 256).

constexpr int HALF = HEAD_DIM / 2;

// Tokens at a time, elements of a tile's side, threads of a block's side.
constexpr int TOKENS = 32, SIDE = 64, THREADS = 16;

// moments [heads, HEAD_DIM + 1, HEAD_DIM]: of each head the sum of its queries q [tokens, heads,
// HEAD_DIM] and then their products with each other, after they are turned back: a token at
// `start` + t was rotated by the angles (start + t) * frequencies [HALF], element i of a head
// paired with element i + HALF.
//
// A block of 16 by 16 threads has a tile of 64 by 64 products of one head, a thread 4 by 4 of them;
// products of some tokens are summed by themselves first, for their accuracy.
//   grid = (tiles of a side, tiles of a side, heads)
extern "C" __global__ void __launch_bounds__(THREADS* THREADS)
    moments(const bf16* __restrict__ q, const float* __restrict__ frequencies,
            float* __restrict__ moments, int tokens, int start, int heads) {
    __shared__ __align__(16) float rows[TOKENS][HEAD_DIM]; // turned back
    const int head = blockIdx.z;
    const int column = blockIdx.x * SIDE + threadIdx.x * 4;
    const int row = blockIdx.y * SIDE + threadIdx.y * 4;
    const int thread = threadIdx.y * THREADS + threadIdx.x;
    const bool has_sums = blockIdx.y == 0 && threadIdx.y == 0;
    float products[4][4] = {}, sums[4] = {};
    for (int first = 0; first < tokens; first += TOKENS) {
        __syncthreads();
        for (int i = thread; i < TOKENS * HALF; i += THREADS * THREADS) {
            int t = i / HALF, pair = i % HALF, token = first + t;
            float a = 0.0f, b = 0.0f;
            if (token < tokens) {
                const bf16* from = q + ((i64)token * heads + head) * HEAD_DIM;
                float low = widen(from[pair]), high = widen(from[pair + HALF]), sine, cosine;
                sincosf((float)(start + token) * frequencies[pair], &sine, &cosine);
                a = cosine * low + sine * high;
                b = cosine * high - sine * low;
            }
            rows[t][pair] = a;
            rows[t][pair + HALF] = b;
        }
        __syncthreads();
        if (row >= HEAD_DIM || column >= HEAD_DIM) continue;
        float some[4][4] = {}, few[4] = {};
        for (int t = 0; t < TOKENS; t++) {
            float4 x = *(const float4*)&rows[t][row], y = *(const float4*)&rows[t][column];
            const float of_rows[4] = {x.x, x.y, x.z, x.w}, of_columns[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                few[i] += of_columns[i];
#pragma unroll
                for (int j = 0; j < 4; j++) some[i][j] += of_rows[i] * of_columns[j];
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sums[i] += few[i];
#pragma unroll
            for (int j = 0; j < 4; j++) products[i][j] += some[i][j];
        }
    }
    if (row >= HEAD_DIM || column >= HEAD_DIM) return;
    float* to = moments + (i64)head * (HEAD_DIM + 1) * HEAD_DIM + column;
    for (int j = 0; j < 4; j++) {
        if (has_sums) to[j] = sums[j];
        for (int i = 0; i < 4; i++) to[(1 + row + i) * HEAD_DIM + j] = products[i][j];
    }
}

// Keys of a block of `expect`, each with four threads.
constexpr int KEYS = HEAD_DIM <= 128 ? 64 : 32, QUARTER = HEAD_DIM / 4;

// logits [heads, tokens] of keys [tokens, kv_heads, HEAD_DIM]: m·k / sqrt(HEAD_DIM) + k·S k / (2
// HEAD_DIM), with the mean m and the covariance S, which is symmetric, of each head's queries
// [heads, HEAD_DIM + 1, HEAD_DIM].
//   grid = (tokens / KEYS, heads), 4 KEYS threads
extern "C" __global__ void __launch_bounds__(4 * KEYS)
    expect(const bf16* __restrict__ keys, const float* __restrict__ queries,
           float* __restrict__ logits, int tokens, int heads, int kv_heads, float scale) {
    __shared__ float tile[KEYS][HEAD_DIM + 1];
    __shared__ float quarters[4][KEYS];
    const int head = blockIdx.y, kv_head = head / (heads / kv_heads), first = blockIdx.x * KEYS;
    const int key = threadIdx.x % KEYS, quarter = threadIdx.x / KEYS;
    for (int i = threadIdx.x; i < KEYS * HEAD_DIM; i += 4 * KEYS) {
        int t = i / HEAD_DIM, d = i % HEAD_DIM;
        i64 from = ((i64)(first + t) * kv_heads + kv_head) * HEAD_DIM + d;
        tile[t][d] = first + t < tokens ? widen(keys[from]) : 0.0f;
    }
    __syncthreads();
    const float* mean = queries + (i64)head * (HEAD_DIM + 1) * HEAD_DIM;
    const float* covariance = mean + HEAD_DIM;
    float linear = 0.0f, square = 0.0f;
    for (int i = quarter * QUARTER; i < (quarter + 1) * QUARTER; i += 4) {
        float4 product = {0.0f, 0.0f, 0.0f, 0.0f}; // elements i to i + 3 of S k
#pragma unroll 8
        for (int j = 0; j < HEAD_DIM; j++) {
            float k = tile[key][j];
            float4 row = *(const float4*)(covariance + j * HEAD_DIM + i);
            product.x += k * row.x;
            product.y += k * row.y;
            product.z += k * row.z;
            product.w += k * row.w;
        }
        const float of[4] = {product.x, product.y, product.z, product.w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            square += of[j] * tile[key][i + j];
            linear += mean[i + j] * tile[key][i + j];
        }
    }
    quarters[quarter][key] = scale * linear + square / (2 * HEAD_DIM);
    __syncthreads();
    if (quarter == 0 && first + key < tokens) {
        float sum = quarters[0][key] + quarters[1][key] + quarters[2][key] + quarters[3][key];
        logits[(i64)head * tokens + first + key] = sum;
    }
}

// norms [kv_heads, tokens]: the lengths of vectors [tokens, kv_heads, HEAD_DIM]. A warp for each.
extern "C" __global__ void norms(const bf16* __restrict__ vectors, float* __restrict__ norms,
                                 int tokens, int kv_heads) {
    i64 vector = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (vector >= (i64)tokens * kv_heads) return;
    float sum = 0.0f;
    for (int d = threadIdx.x % 32; d < HEAD_DIM; d += 32) {
        float x = widen(vectors[vector * HEAD_DIM + d]);
        sum += x * x;
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
        norms[vector % kv_heads * tokens + vector / kv_heads] = sqrtf(sum);
    }
}
