// The readable twin of mass.cu: the same function of the same arguments, a warp per key. Grid:
// (keys / warps of a block, kv_heads).

constexpr int MASS_COLUMNS = (HEAD_DIM + 31) / 32; // of a lane: lane, lane + 32, ...

// sums [kv_heads, stride] of `count` keys, the first of which stands at `key_start`. q is [tokens,
// heads, head_dim] and lse [tokens, heads], their tokens at `positions [tokens]`, which ascend, or,
// if that is null, from `start` on; keys are [count, kv_heads, head_dim]; `hidden [count]`, if not
// null, is not 0 for keys that no query sees. `offsets`, `indices` and `largest` as there.
extern "C" __global__ void mass(const bf16* q, const u32* positions, const float* lse,
                                const bf16* keys, const unsigned char* hidden, float* sums,
                                int tokens, int start, int heads, int kv_heads, float scale,
                                int count, int key_start, i64 stride, const u32* offsets,
                                const u32* indices, int largest) {
    constexpr int head_dim = HEAD_DIM;
    const int lane = threadIdx.x % 32, kv_head = blockIdx.y, group = heads / kv_heads;
    i64 key = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    i64 row_of_key = key * kv_heads + kv_head;
    if (offsets) {
        count = (int)(offsets[kv_head + 1] - offsets[kv_head]);
        row_of_key = offsets[kv_head] + key;
    }
    if (key >= count) return;
    if (offsets) key = indices[row_of_key]; // its token
    float k[MASS_COLUMNS];
#pragma unroll
    for (int c = 0; c < MASS_COLUMNS; c++) {
        int i = c * 32 + lane;
        k[c] = i < head_dim ? widen(keys[row_of_key * head_dim + i]) : 0.0f;
    }
    float sum = 0.0f;
    // The first token that sees the key.
    i64 first = hidden && hidden[key] ? tokens : max((i64)0, key_start + key - start);
    if (positions) {
        first = hidden && hidden[key] ? tokens : 0;
        while (first < tokens && positions[first] < key_start + key) first++;
    }
    for (i64 token = first; token < tokens; token++) {
        for (int h = 0; h < group; h++) {
            i64 row = token * heads + kv_head * group + h;
            float dot = 0.0f;
#pragma unroll
            for (int c = 0; c < MASS_COLUMNS; c++) {
                int i = c * 32 + lane;
                if (i < head_dim) dot += widen(q[row * head_dim + i]) * k[c];
            }
            float all = lse[row];
            dot = warp_sum(dot) * scale;
            if (all == -INFINITE) continue;
            sum = largest ? fmaxf(sum, __expf(dot - all)) : sum + __expf(dot - all);
        }
    }
    if (lane == 0) sums[kv_head * stride + key] = sum;
}
