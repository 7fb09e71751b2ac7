/* The loops of mev_engine.detect.kernels, line by line, as the yardstick of `mev-engine bench`. */
#include <math.h>
#include <stdint.h>

int64_t screen_all(const int32_t *restrict loops, int64_t n, int64_t hops,
                   const double *restrict log_rate, int32_t *restrict hits)
{
    int64_t found = 0;
    for (int64_t loop = 0; loop < n; loop++) {
        double forward = 0.0, backward = 0.0;
        for (int64_t j = 0; j < hops; j++) {
            int32_t edge = loops[loop * hops + j];
            forward += log_rate[edge];
            backward += log_rate[edge ^ 1];
        }
        if (forward > 0.0)
            hits[found++] = (int32_t)(2 * loop);
        else if (backward > 0.0)
            hits[found++] = (int32_t)(2 * loop + 1);
    }
    return found;
}

void size_hits(const int32_t *restrict hits, int64_t n, const int32_t *restrict loops, int64_t hops,
               const double *restrict slope, const double *restrict curve,
               double *restrict amount, double *restrict bound)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t loop = hits[i] >> 1;
        int32_t backwards = hits[i] & 1;
        double a = 1.0, b = 0.0;
        for (int64_t j = 0; j < hops; j++) {
            int32_t edge = loops[loop * hops + (backwards ? hops - 1 - j : j)] ^ backwards;
            b += a * curve[edge];
            a *= slope[edge];
        }
        double gain = sqrt(a) - 1.0;
        amount[i] = gain / b;
        gain += 4e-15 * (gain + 1.0);
        bound[i] = gain * gain / b * (1.0 + 1e-12);
    }
}
