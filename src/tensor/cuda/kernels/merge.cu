// Attention over disjoint sets of keys into attention over all of them, exactly: parts are
// normalised, and weighted by the exponentials of their log-sum-exps. A log-sum-exp of minus
// infinity marks a part that saw no key.

// Merges part [rows, head_dim] with part_lse [rows] into out and lse. A warp per row; grid:
// rows / (threads / 32), rounded up.
extern "C" __global__ void merge(bf16* out, float* lse, const bf16* part, const float* part_lse,
                                 int rows, int head_dim) {
    i64 row = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    int lane = threadIdx.x % 32;
    float a = lse[row], b = part_lse[row];
    if (b == -INFINITE) return;
    float most = fmaxf(a, b);
    float total = __expf(a - most) + __expf(b - most);
    float keep = __expf(a - most) / total, add = __expf(b - most) / total;
    for (i64 i = row * head_dim + lane; i < (row + 1) * head_dim; i += 32) {
        float mine = a == -INFINITE ? 0.0f : keep * widen(out[i]); // whatever an empty row holds
        out[i] = narrow(mine + add * widen(part[i]));
    }
    __syncwarp();
    if (lane == 0) lse[row] = most + __logf(total);
}

// out [rows, head_dim] and lse [rows] of all parts: part_out [parts, rows, head_dim] and
// part_lse [parts, rows]. Grid: rows; blocks of any multiple of 32 threads, best head_dim.
extern "C" __global__ void combine(const float* part_out, const float* part_lse, int parts,
                                   bf16* out, float* lse, int rows, int head_dim) {
    i64 row = blockIdx.x;
    int lane = threadIdx.x % 32;
    // Every warp finds the maximum and the total for itself.
    float most = -INFINITE, total = 0.0f;
    for (int p = lane; p < parts; p += 32) most = fmaxf(most, part_lse[(i64)p * rows + row]);
    most = warp_max(most);
    float base = most == -INFINITE ? 0.0f : most;
    for (int p = lane; p < parts; p += 32) total += __expf(part_lse[(i64)p * rows + row] - base);
    total = warp_sum(total);
    float inverse = total > 0.0f ? 1.0f / total : 0.0f;
    for (int i = threadIdx.x; i < head_dim; i += blockDim.x) {
        float sum = 0.0f;
#pragma unroll 8
        for (int p = 0; p < parts; p++) {
            i64 at = (i64)p * rows + row;
            sum += __expf(part_lse[at] - base) * part_out[at * head_dim + i];
        }
        out[row * head_dim + i] = narrow(sum * inverse);
    }
    if (threadIdx.x == 0) lse[row] = total > 0.0f ? most + __logf(total) : -INFINITE;
}
