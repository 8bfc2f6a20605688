// The readable twin of attend.cu: the same function of the same arguments, in f32 throughout,
// without parts. A warp per query token and head. Grid: (the most tokens of a sequence * heads,
// sequences); blocks of 32 threads. -DHEAD_DIM: any size.
extern "C" __global__ void attend_naive(const bf16* q, const __grid_constant__ Few few,
                                        const Sequence* sequences, int count,
                                        const Segment* table, int heads, int kv_heads, float scale,
                                        float* part_out, float* part_lse, bf16* out, float* lse,
                                        const u32* advance) {
    constexpr int COLUMNS = (HEAD_DIM + 31) / 32; // of a lane: lane, lane + 32, ...
    const Tables tables(few, sequences, table);
    const Sequence sequence = tables.sequences[blockIdx.y];
    int lane = threadIdx.x;
    i64 own = blockIdx.x;
    if (own >= (i64)sequence.tokens * heads) return;
    int kv_head = (int)(own % heads) / (heads / kv_heads);
    const Grown segments(tables.segments + sequence.first_segment, sequence.segments, advance,
                         kv_head, kv_heads);
    int position = position_of(sequence, (int)(own / heads), segments.longer);
    i64 row = (i64)sequence.first_token * heads + own;

    float query[COLUMNS], sum[COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        int i = c * 32 + lane;
        query[c] = i < HEAD_DIM ? widen(q[row * HEAD_DIM + i]) : 0.0f;
        sum[c] = 0.0f;
    }
    float most = -INFINITE, total = 0.0f;
    for (int s = 0; s < segments.count; s++) {
        const Run segment = segments[s];
        for (int t = 0; t < segment.tokens; t++) {
            int token = segment.indices ? (int)segment.indices[t] : t;
            if (segment.start + token > position) break;
            if (segment.hidden && segment.hidden[token]) continue;
            i64 at = (i64)t * segment.heads * HEAD_DIM;
            float score = 0.0f;
            for (int c = 0; c < COLUMNS; c++) {
                int i = c * 32 + lane;
                if (i < HEAD_DIM) score += query[c] * widen(segment.keys[at + i]);
            }
            score = warp_sum(score) * scale;
            // Online softmax: sums are relative to the largest score so far.
            float before = most;
            most = fmaxf(most, score);
            float fade = expf(before - most), weight = expf(score - most);
            total = total * fade + weight;
            for (int c = 0; c < COLUMNS; c++) {
                int i = c * 32 + lane;
                if (i >= HEAD_DIM) continue;
                sum[c] = sum[c] * fade + weight * widen(segment.values[at + i]);
            }
        }
    }
    for (int c = 0; c < COLUMNS; c++) {
        int i = c * 32 + lane;
        if (i < HEAD_DIM) out[row * HEAD_DIM + i] = narrow(total > 0.0f ? sum[c] / total : 0.0f);
    }
    if (lane == 0) lse[row] = most + logf(total); // log 0 is minus infinity: no key was seen
}
