// Attention over disjoint sets of keys into attention over all of them, exactly: parts are
// normalised, and weighted by the exponentials of their log-sum-exps. A log-sum-exp of minus
// infinity marks a part that saw no key.

template <int N>
__device__ void merge_rows(bf16* out, float* lse, const bf16* part, const float* part_lse, int rows,
                           int head_dim) {
    int lanes = lanes_for<N>(head_dim), lane = threadIdx.x % lanes;
    u32 group = (lanes == 32 ? ~0u : (1u << lanes) - 1) << (threadIdx.x % 32 - lane);
    i64 first = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / lanes;
    for (i64 row = first; row < rows; row += (i64)gridDim.x * blockDim.x / lanes) {
        float a = lse[row], b = part_lse[row];
        if (b == -INFINITE) continue;
        float most = fmaxf(a, b);
        float total = __expf(a - most) + __expf(b - most);
        float keep = __expf(a - most) / total, add = __expf(b - most) / total;
        for (int i = lane * N; i < head_dim; i += lanes * N) {
            float x[N], y[N];
            load(out + row * head_dim + i, x);
            load(part + row * head_dim + i, y);
#pragma unroll
            for (int j = 0; j < N; j++) {
                // Whatever an empty row holds does not count.
                x[j] = (a == -INFINITE ? 0.0f : keep * x[j]) + add * y[j];
            }
            store(out + row * head_dim + i, x);
        }
        __syncwarp(group); // all have read the row's log-sum-exp
        if (lane == 0) lse[row] = most + __logf(total);
    }
}

// Merges part [rows, head_dim] with part_lse [rows] into out and lse. Any grid; 256 threads of a
// block are a good size, and 2048 elements of `out` for each block.
extern "C" __global__ void merge(bf16* out, float* lse, const bf16* part, const float* part_lse,
                                 int rows, int head_dim) {
    head_dim % 8 ? merge_rows<1>(out, lse, part, part_lse, rows, head_dim)
                 : merge_rows<8>(out, lse, part, part_lse, rows, head_dim);
}

// out [rows, head_dim] of parts [count, rows, head_dim] with their lse [count, rows]. Grid: rows;
// blocks of any multiple of 32 threads, best head_dim.
extern "C" __global__ void merge_all(bf16* out, const bf16* parts, const float* lse, int count,
                                     int rows, int head_dim) {
    i64 row = blockIdx.x;
    float most = -INFINITE, total = 0.0f;
    for (int p = 0; p < count; p++) most = fmaxf(most, lse[(i64)p * rows + row]);
    float base = most == -INFINITE ? 0.0f : most;
    for (int p = 0; p < count; p++) total += __expf(lse[(i64)p * rows + row] - base);
    float inverse = total > 0.0f ? 1.0f / total : 0.0f;
    for (int i = threadIdx.x; i < head_dim; i += blockDim.x) {
        float sum = 0.0f;
        for (int p = 0; p < count; p++) {
            i64 at = (i64)p * rows + row;
            float share = __expf(lse[at] - base);
            // Whatever an empty part holds does not count.
            if (share > 0.0f) sum += share * widen(parts[at * head_dim + i]);
        }
        out[row * head_dim + i] = narrow(sum * inverse);
    }
}

// out [tokens, heads, head_dim] and lse [tokens, heads] of all sequences that are split, of their
// parts: part_out [part rows, head_dim] and part_lse [part rows], see `Sequence`. The sequences are
// `count` in device memory, or `one` if that is null. Grid: rows of the sequences that are split;
// blocks of any multiple of 32 threads, best head_dim.
extern "C" __global__ void combine(const float* part_out, const float* part_lse,
                                   const __grid_constant__ Sequence one,
                                   const Sequence* sequences, int count, bf16* out, float* lse,
                                   int heads, int head_dim) {
    const Sequence* all = sequences ? sequences : &one;
    const Sequence sequence = all[sequence_of(
        all, count, blockIdx.x, [](const Sequence& s) { return s.first_split_row; })];
    i64 own = (int)blockIdx.x - sequence.first_split_row;
    i64 row = (i64)sequence.first_token * heads + own;
    i64 first = sequence.first_part_row + own, rows = (i64)sequence.tokens * heads;
    int parts = sequence.parts, lane = threadIdx.x % 32;
    // Every warp finds the maximum and the total for itself.
    float most = -INFINITE, total = 0.0f;
    for (int p = lane; p < parts; p += 32) most = fmaxf(most, part_lse[first + p * rows]);
    most = warp_max(most);
    float base = most == -INFINITE ? 0.0f : most;
    for (int p = lane; p < parts; p += 32) total += __expf(part_lse[first + p * rows] - base);
    total = warp_sum(total);
    float inverse = total > 0.0f ? 1.0f / total : 0.0f;
    for (int i = threadIdx.x; i < head_dim; i += blockDim.x) {
        float sum = 0.0f;
#pragma unroll 8
        for (int p = 0; p < parts; p++) {
            i64 at = first + p * rows;
            sum += __expf(part_lse[at] - base) * part_out[at * head_dim + i];
        }
        out[row * head_dim + i] = narrow(sum * inverse);
    }
    if (threadIdx.x == 0) lse[row] = total > 0.0f ? most + __logf(total) : -INFINITE;
}
