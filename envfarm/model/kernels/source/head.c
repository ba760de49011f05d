#include "forward.h"
#include "product.h"
#include "vector.h"

/* Says of a row of logits which is the highest, the first among equals, and what the others' probabilities sum up to if
   its own is 1, it included; returns false where one of them is not finite. */
static bool describe(const float *logits, int64_t size, int32_t *likeliest, float *total_chance) {
    float most = logits[0];
    vector tested = vector_of(0), high = vector_of(most);
    for (int64_t i = 0; i < size; i += LANES) {
        vector x = load_first(logits + i, size - i);
        tested += x * vector_of(0); /* stays 0 while all are finite */
        high = __builtin_elementwise_max(high, i + LANES <= size ? x : high);
    }
    most = largest(high);
    for (int64_t i = size / LANES * LANES; i < size; i++)
        most = logits[i] > most ? logits[i] : most;
    int64_t place = 0;
    while (place < size - 1 && logits[place] != most)
        place++;
    vector total = vector_of(0);
    for (int64_t i = 0; i < size; i += LANES) {
        vector power = exponential(load_first(logits + i, size - i) - vector_of(most));
        vector whole = vector_of(0);
        store_first((float *)&whole, power, size - i);
        total += whole;
    }
    *likeliest = (int32_t)place;
    *total_chance = sum(total);
    return sum(tested) == 0;
}

/* Makes logits [count, V] of hidden states, a pointer for each row, and describes them. */
EXPORTED void envfarm_head(const struct model *model, const struct head *head) {
    product(&model->head, head->hidden, head->logits, head->count, false);
    for (int64_t i = 0; i < head->count; i++)
        head->finite[i] = describe(head->logits[i], model->vocabulary, head->likeliest + i, head->total_chances + i);
}
