// Chosen rows of a table.

// to [rows, bytes] = the rows `chosen [rows]` of from [any, bytes]. Grid: rows.
extern "C" __global__ void gather(const unsigned char* from, const u32* chosen, unsigned char* to,
                                  int bytes) {
    from += (i64)chosen[blockIdx.x] * bytes;
    to += (i64)blockIdx.x * bytes;
    if (((i64)from | (i64)to | bytes) % 16 == 0) {
        for (int i = threadIdx.x; i < bytes / 16; i += blockDim.x) {
            ((uint4*)to)[i] = ((const uint4*)from)[i];
        }
    } else {
        for (int i = threadIdx.x; i < bytes; i += blockDim.x) to[i] = from[i];
    }
}
