// Softmax weights of the last rows of a text, per query head: summed over the rows by key, and by
// distance in tiles of keys; `slash` (coarse.cu) adds up the tiles' distances.
//
// q is [rows, heads, head_dim] at consecutive positions from `start` on, lse [rows, heads]; keys
// are a segment [count, kv_heads, head_dim] whose first stands at `key_start` and is number `first`
// of `all` keys. vertical is [heads, all]. bands [heads, tiles, ROWS + KEYS]: element e of a tile
// is the sum of weights of rows r and keys k of the tile for which r - k + KEYS - 1 = e.
//
// A block has KEYS keys of one head in shared memory; its warps take turns with the rows, 16 at a
// time, and put weights into shared memory, where they are added up in one order.
//
// Macros: HEAD_DIM (a multiple of 16), KEYS (64), ROWS (the most rows, a multiple of 16), WARPS.
//   shared = KEYS * (HEAD_DIM + 8) * 2 + ROWS * (KEYS + 1) * 4 bytes
//   grid   = (keys / KEYS, heads)

constexpr int STRIDE = HEAD_DIM + 8;
constexpr int CHUNKS = HEAD_DIM / 8; // of 8 elements, in a row

extern "C" __global__ void __launch_bounds__(WARPS * 32)
    lines(const bf16* __restrict__ q, const float* __restrict__ lse,
          const bf16* __restrict__ keys, float* __restrict__ vertical, float* __restrict__ bands,
          int rows, int start, int heads, int kv_heads, float scale, int count, int key_start,
          i64 first, i64 all) {
    extern __shared__ __align__(16) bf16 tile[]; // [KEYS, STRIDE]
    float* weights = (float*)(tile + KEYS * STRIDE); // [ROWS, KEYS + 1]
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
    const int kv_head = head / (heads / kv_heads);
    const int first_key = blockIdx.x * KEYS, left = count - first_key;
    for (int i = threadIdx.x; i < KEYS * CHUNKS; i += WARPS * 32) {
        int key = i / CHUNKS, chunk = i % CHUNKS;
        bool inside = key < left;
        i64 from = ((i64)(inside ? first_key + key : 0) * kv_heads + kv_head) * HEAD_DIM;
        copy_async(shared_address(tile + key * STRIDE + chunk * 8), keys + from + chunk * 8,
                   inside);
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();

    const u32 key_rows =
        shared_address(tile + (lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 8);
    const float scale_log2 = scale * LOG2_E;
    for (int first_row = warp * 16; first_row < ROWS; first_row += WARPS * 16) {
        // This lane's rows: one, and the one 8 below.
        const bf16* row[2];
        float base[2]; // of the exponents; infinite for a row that is none
        int seen[2];   // keys of the tile that the row sees
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = first_row + half * 8 + lane / 4;
            bool inside = r < rows;
            i64 place = (i64)(inside ? r : 0) * heads + head;
            row[half] = q + place * HEAD_DIM;
            base[half] = inside ? lse[place] * LOG2_E : INFINITE;
            seen[half] = inside ? min(left, start + r + 1 - (key_start + first_key)) : 0;
        }
        float scores[KEYS / 8][4] = {};
#pragma unroll 2 // more would take more registers than there are
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
                int key = n * 8 + lane % 4 * 2 + i % 2, r = first_row + i / 2 * 8 + lane / 4;
                float weight = exp2_fast(scores[n][i] * scale_log2 - base[i / 2]);
                weights[r * (KEYS + 1) + key] = key < seen[i / 2] ? weight : 0.0f;
            }
        }
    }
    __syncthreads();
    for (int key = threadIdx.x; key < min(KEYS, left); key += WARPS * 32) {
        float sum = 0.0f;
        for (int r = 0; r < rows; r++) sum += weights[r * (KEYS + 1) + key];
        vertical[head * all + first + first_key + key] = sum;
    }
    float* band = bands + ((i64)head * gridDim.x + blockIdx.x) * (ROWS + KEYS);
    for (int e = threadIdx.x; e < ROWS + KEYS; e += WARPS * 32) {
        float sum = 0.0f;
        for (int key = 0; key < KEYS; key++) {
            int r = e - (KEYS - 1) + key;
            if (r >= 0 && r < rows) sum += weights[r * (KEYS + 1) + key];
        }
        band[e] = sum;
    }
}
