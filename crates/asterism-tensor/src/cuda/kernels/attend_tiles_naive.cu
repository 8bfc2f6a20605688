// The readable twin of block-sparse attention: every key of every segment is looked up in the mask.
// A warp per query token and head. Grid: (tokens * heads); blocks of 32 threads. -DHEAD_DIM,
// -DSPARSE
extern "C" __global__ void attend_naive(const bf16* q, const __grid_constant__ Few few,
                                        const Sequence* sequences, int count,
                                        const Segment* table, int heads, int kv_heads, float scale,
                                        float* part_out, float* part_lse, bf16* out, float* lse,
                                        const __grid_constant__ Mask mask) {
    constexpr int COLUMNS = (HEAD_DIM + 31) / 32; // of a lane: lane, lane + 32, ...
    const Tables tables(few, sequences, table);
    const Sequence sequence = tables.sequences[0];
    const Segment* segments = tables.segments + sequence.first_segment;
    int lane = threadIdx.x, token = (int)(blockIdx.x / heads), head = (int)(blockIdx.x % heads);
    int position = sequence.start + token, kv_head = head / (heads / kv_heads);
    int first = sequence.start + token / MASK_TILE * MASK_TILE;
    const List list(mask, head, token / MASK_TILE);
    i64 row = (i64)(sequence.first_token + token) * heads + head;

    float query[COLUMNS], sum[COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        int i = c * 32 + lane;
        query[c] = i < HEAD_DIM ? widen(q[row * HEAD_DIM + i]) : 0.0f;
        sum[c] = 0.0f;
    }
    float most = -INFINITE, total = 0.0f;
    int first_tile = 0;
    for (int s = 0; s < sequence.segments; s++) {
        const Segment segment = segments[s];
        for (int t = 0; t < segment.tokens && segment.start + t <= position; t++) {
            u32 slot = (first_tile + t / MASK_TILE) * MASK_TILE + t % MASK_TILE;
            bool seen = list.has(slot / MASK_TILE);
            for (int i = 0; !seen && i < list.single; i++) {
                seen = list.columns[i] == slot && segment.start + t <= first;
            }
            if (!seen) continue;
            i64 at = ((i64)t * kv_heads + kv_head) * HEAD_DIM;
            float score = 0.0f;
            for (int c = 0; c < COLUMNS; c++) {
                int i = c * 32 + lane;
                if (i < HEAD_DIM) score += query[c] * widen(segment.keys[at + i]);
            }
            score = warp_sum(score) * scale;
            float before = most;
            most = fmaxf(most, score);
            float fade = expf(before - most), weight = expf(score - most);
            total = total * fade + weight;
            for (int c = 0; c < COLUMNS; c++) {
                int i = c * 32 + lane;
                if (i < HEAD_DIM) sum[c] = sum[c] * fade + weight * widen(segment.values[at + i]);
            }
        }
        first_tile += (segment.tokens + MASK_TILE - 1) / MASK_TILE;
    }
    for (int c = 0; c < COLUMNS; c++) {
        int i = c * 32 + lane;
        if (i < HEAD_DIM) out[row * HEAD_DIM + i] = narrow(total > 0.0f ? sum[c] / total : 0.0f);
    }
    if (lane == 0) lse[row] = most + logf(total); // log 0 is minus infinity: no key was seen
}
