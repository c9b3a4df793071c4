#include "attention.h"

void apply_rope(float *head, const float *cos, const float *sin, int half) {
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cos[i] - b * sin[i];
        head[i + half] = b * cos[i] + a * sin[i];
    }
}

void attend(
    const float *query, const Half *keys, const Half *values, int count, int size, float *scores,
    float *out
) {
    const int whole = (count + LANES - 1) / LANES * LANES, vectors = size / LANES;
    const float scale = 1 / __builtin_sqrtf((float)size), nothing = -1e30f;
    float most = nothing, odd = 0; /* NaN once a score is not finite, which e^x would not show */
    for (int p = 0; p < count; p++) {
        const Half *key = keys + (size_t)p * size;
        Floats products = floats(0);
        for (int i = 0; i < vectors; i++)
            products += load(query + i * LANES) * load_halves(key + i * LANES);
        scores[p] = scale * sum(products);
        odd += scores[p] - scores[p];
        if (scores[p] > most) most = scores[p];
    }
    for (int p = count; p < whole; p++) scores[p] = nothing;
    Floats weights = floats(0);
    for (int p = 0; p < whole; p += LANES) {
        const Floats weight = exponential(load(scores + p) - floats(most));
        store(scores + p, weight);
        weights += weight;
    }
    const Floats inverse = floats(1 / sum(weights) + odd);
    Floats sums[WIDEST_HEAD / LANES];
    for (int i = 0; i < vectors; i++) sums[i] = floats(0);
    for (int p = 0; p < count; p++)
        for (int i = 0; i < vectors; i++)
            sums[i] += floats(scores[p]) * load_halves(values + (size_t)p * size + i * LANES);
    for (int i = 0; i < vectors; i++) store(out + i * LANES, sums[i] * inverse);
}
