// Softmax weight of each key of a segment, summed over rows of queries and the query heads of its
// KV head, or the largest of them, given the log-sum-exps of attention over all keys that share the
// weight.
//
// sums [kv_heads, stride] of `count` keys, the first of which stands at `key_start`. q is [tokens,
// heads, head_dim] and lse [tokens, heads], their tokens at `positions [tokens]`, which ascend, or,
// if that is null, from `start` on; keys are [count, kv_heads, head_dim]; `hidden [count]`, if not
// null, is not 0 for keys that no query sees.
//
// Where every head has its own choice of the tokens, keys are [rows, head_dim], those of head h
// from row `offsets[h]` to `offsets[h + 1]`, `indices [rows]` says which token a row is of, and
// `count` is the most rows of a head. Columns of sums and flags are those of tokens; tokens whose
// keys a head does not have keep what is there.
//
// A block has KEYS keys of one KV head in shared memory. Its warps take turns with the rows (token,
// query head), 16 at a time, and add up the weights of a key where they are computed; what warps
// have is added in their order.
//
// Macros: HEAD_DIM (a multiple of 16), KEYS (a multiple of 16), WARPS.
//   shared = KEYS * (HEAD_DIM + 8) * 2 bytes
//   grid   = (keys / KEYS, kv_heads)

constexpr int STRIDE = HEAD_DIM + 8;
constexpr int CHUNKS = HEAD_DIM / 8; // of 8 elements, in a row

extern "C" __global__ void __launch_bounds__(WARPS * 32)
    mass(const bf16* __restrict__ q, const u32* positions, const float* __restrict__ lse,
         const bf16* __restrict__ keys, const unsigned char* hidden, float* __restrict__ sums,
         int tokens, int start, int heads, int kv_heads, float scale, int count, int key_start,
         i64 stride, const u32* offsets, const u32* indices, int largest) {
    extern __shared__ __align__(16) bf16 tile[]; // [KEYS, STRIDE]
    __shared__ float of_warps[WARPS][KEYS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.y;
    const int group = heads / kv_heads, rows = tokens * group;
    int key_heads = kv_heads; // from one key to the next
    i64 first_row = kv_head;  // of the head's first key, in heads
    if (offsets) {
        key_heads = 1;
        first_row = offsets[kv_head];
        count = (int)(offsets[kv_head + 1] - first_row);
        indices += first_row;
    }
    const int first_key = blockIdx.x * KEYS, left = count - first_key;
    if (left <= 0) return;
    for (int i = threadIdx.x; i < KEYS * CHUNKS; i += WARPS * 32) {
        int key = i / CHUNKS, chunk = i % CHUNKS;
        bool inside = key < left;
        i64 from = ((i64)(inside ? first_key + key : 0) * key_heads + first_row) * HEAD_DIM;
        copy_async(shared_address(tile + key * STRIDE + chunk * 8), keys + from + chunk * 8,
                   inside);
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();

    const u32 key_rows =
        shared_address(tile + (lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 8);
    const u32* own = offsets ? indices + first_key : nullptr;
    const u32 hidden_here = hidden_keys(hidden && !own ? hidden + first_key : hidden, own, left);
    const float scale_log2 = scale * LOG2_E;
    float sum[KEYS / 8][2] = {}; // of this lane's rows
    for (int first = warp * 16; first < rows; first += WARPS * 16) {
        // This lane's rows: one, and the one 8 below.
        const bf16* row[2];
        float base[2]; // of the exponents; infinite for a row that sees nothing, or is none
        int seen[2];   // keys of the tile that the row sees
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = first + half * 8 + lane / 4;
            bool inside = r < rows;
            int token = inside ? r / group : 0;
            i64 place = (i64)token * heads + kv_head * group + (inside ? r % group : 0);
            row[half] = q + place * HEAD_DIM;
            float all = lse[place];
            base[half] = inside && all != -INFINITE ? all * LOG2_E : INFINITE;
            int position = positions ? (int)positions[token] : start + token;
            int before = position + 1 - key_start; // tokens
            seen[half] = own ? below(own, left, before) : min(left, before - first_key);
        }
        float scores[KEYS / 8][4] = {};
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; k++) {
            u32 a[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                a[i] = *(const u32*)(row[i % 2] + k * 16 + i / 2 * 8 + lane % 4 * 2);
            }
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                u32 m[4];
                load_matrices(m, key_rows + n * 32 * STRIDE + k * 32);
                multiply(scores[2 * n], a, m[0], m[1]);
                multiply(scores[2 * n + 1], a, m[2], m[3]);
            }
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int key = n * 8 + lane % 4 * 2 + i % 2;
                float weight = exp2_fast(scores[n][i] * scale_log2 - base[i / 2]);
                bool sees = key < seen[i / 2] && !(hidden_here >> (2 * n + i % 2) & 1);
                weight = sees ? weight : 0.0f;
                float* all = &sum[n][i % 2];
                *all = largest ? fmaxf(*all, weight) : *all + weight;
            }
        }
    }
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float all = sum[n][i];
            for (int lanes = 4; lanes < 32; lanes *= 2) {
                float other = __shfl_xor_sync(~0u, all, lanes);
                all = largest ? fmaxf(all, other) : all + other;
            }
            if (lane < 4) of_warps[warp][n * 8 + lane * 2 + i] = all;
        }
    }
    __syncthreads();
    for (int key = threadIdx.x; key < min(KEYS, left); key += WARPS * 32) {
        float all = 0.0f;
        for (int w = 0; w < WARPS; w++) {
            all = largest ? fmaxf(all, of_warps[w][key]) : all + of_warps[w][key];
        }
        sums[kv_head * stride + (own ? (int)own[key] : first_key + key)] = all;
    }
}
