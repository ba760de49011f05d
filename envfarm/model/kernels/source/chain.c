/* All blocks after one another, each with the guesses of those before it: greedily, without a way back to Python. */
#include "forward.h"
#include "scratch.h"
#include "vector.h"

/* One pass of a block over all segments. */
struct pass {
    struct segment *segments;
    int32_t *ids;
    const float **given, **ends;
    float *hidden;
    float **logits;
    int32_t *likeliest;
    float *total_chances;
    uint8_t *finite;
};

static struct pass cut_pass(struct scratch *scratch, const struct model *model, int64_t segments, int64_t tokens) {
    struct pass pass = {
        .segments = cut(scratch, segments, sizeof(struct segment)),
        .ids = cut(scratch, tokens, sizeof(int32_t)),
        .given = cut(scratch, tokens, sizeof(float *)),
        .ends = cut(scratch, segments, sizeof(float *)),
        .hidden = cut(scratch, tokens * model->hidden, sizeof(float)),
        .logits = cut(scratch, segments, sizeof(float *)),
        .likeliest = cut(scratch, segments, sizeof(int32_t)),
        .total_chances = cut(scratch, segments, sizeof(float)),
        .finite = cut(scratch, segments, sizeof(uint8_t)),
    };
    for (int64_t s = 0; s < segments; s++) {
        float *row = cut(scratch, model->vocabulary, sizeof(float));
        if (scratch->next != NULL)
            pass.logits[s] = row;
    }
    return pass;
}

/* How much memory a chain needs whose last block goes over so many tokens. */
EXPORTED int64_t envfarm_chain_floats(const struct model *model, int64_t blocks, int64_t segments, int64_t tokens) {
    struct scratch scratch = {NULL, 0};
    cut_pass(&scratch, model, segments, tokens);
    return scratch.floats + envfarm_scratch_floats(model, blocks, tokens);
}

/* Guesses a token with each of `blocks` blocks, for each segment of `step`.

   A segment says what the first block goes over: `count` rows that end with the newest. Block k goes over k rows more,
   whose tokens were guesses before. `ids` and `given` hold, from place `segment.blocks` on, what the last block needs:
   count + blocks - 1 tokens, the newest last, with room for the guesses behind them, and as many hidden states.
   `step.memories` has one structure for each block. */
EXPORTED void envfarm_guess_all(const struct model *model, int64_t blocks, const struct step *step, int32_t *ids) {
    struct scratch scratch = {step->scratch, 0};
    struct pass pass = cut_pass(&scratch, model, step->segment_count, step->tokens);
    struct step own = *step;
    own.segments = pass.segments;
    own.ids = pass.ids;
    own.given = pass.given;
    own.hidden = pass.hidden;
    own.scratch = scratch.next;
    for (int64_t k = 0; k < blocks; k++) {
        own.tokens = 0;
        own.memories = step->memories + k;
        for (int64_t s = 0; s < step->segment_count; s++) {
            const struct segment *segment = step->segments + s;
            int64_t rows = segment->count + k, place = segment->blocks + blocks - 1;
            pass.segments[s] = (struct segment){segment->row, segment->start - (int32_t)k, (int32_t)rows, 0};
            for (int64_t row = 0; row < rows; row++) {
                pass.ids[own.tokens + row] = ids[place + row];
                pass.given[own.tokens + row] = step->given[place - k + row];
            }
            own.tokens += rows;
            pass.ends[s] = pass.hidden + (own.tokens - 1) * model->hidden;
        }
        envfarm_predict_further(model, k, &own);
        struct head head = {step->segment_count, pass.ends,          pass.logits,
                            pass.likeliest,      pass.total_chances, pass.finite};
        envfarm_head(model, &head);
        for (int64_t s = 0; s < step->segment_count; s++) {
            const struct segment *segment = step->segments + s;
            ids[segment->blocks + segment->count + blocks - 1 + k] = pass.likeliest[s];
        }
    }
}
