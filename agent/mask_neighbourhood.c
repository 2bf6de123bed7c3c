/* SPDX-License-Identifier: Apache-2.0 */
/* mask_neighbourhood.c - reading around a candidate from many places at once. */
#include "mask_neighbourhood.h"

#include "disassembly.h"

/* Readings that begin at any byte of code soon fall into step. So many are begun, each at its own
 * byte, and those that arrive must agree; what comes before they are in step is not looked at. */
#define READINGS    48
#define AGREE_LEAST 24 /* that arrive at the candidate as an instruction */
#define READ_BYTES  (MASK_NEIGHBOURHOOD_BYTES + READINGS + 1)
#define EAX_BEFORE  10 /* instructions in which eax is set */
#define USE_BEHIND  24 /* and in which a result is used */

/* What a reading finds where the candidate is; length 0: something on the way there is no code, or
 * none that a program has. */
struct arrival {
    size_t start, length; /* of the instruction that covers it */
    size_t first;         /* of those that it came by, when it was in step */
    bool is_cpuid;        /* that ends with the candidate, after eax was set */
};

/* What begins at each byte before the candidate: readings that fell into step share it. */
struct steps {
    const uint8_t *bytes;
    size_t size, at; /* `at`: of the candidate */
    size_t start;    /* where the first reading begins */
    struct step {
        bool is_known, is_code;
        struct instruction in;
        struct instruction_use use;
    } step[READ_BYTES];
};

static const struct step *step_at(struct steps *steps, size_t here)
{
    struct step *s = &steps->step[here - steps->start];
    if (!s->is_known) {
        s->is_known = true;
        s->is_code =
            instruction_decode_use(steps->bytes + here, steps->size - here, here, &s->in, &s->use);
    }
    return s;
}

/* Reads from `from`, where it may be out of step for as many bytes as there are readings. */
static struct arrival read_towards(struct steps *steps, size_t from)
{
    static const struct arrival never;
    unsigned since_eax = EAX_BEFORE;
    size_t at = steps->at, in_step = at - MASK_NEIGHBOURHOOD_BYTES, first = at;
    for (size_t here = from; here <= at;) {
        const struct step *s = step_at(steps, here);
        if (here >= in_step && (!s->is_code || s->use.is_unusual))
            return never;
        if (!s->is_code) {
            here++;
            continue;
        }
        if (here + s->in.length > at) {
            bool is_cpuid = s->in.is_cpuid && here + s->in.length == at + 2;
            if (is_cpuid && since_eax >= EAX_BEFORE)
                return never;
            return (struct arrival){here, s->in.length, first, is_cpuid};
        }
        if (here >= in_step && here < first)
            first = here;
        since_eax++;
        if (s->use.addresses & REGISTER_EAX) /* then it holds no leaf's number */
            since_eax = EAX_BEFORE;
        if (s->use.writes & REGISTER_EAX)
            since_eax = 0;
        here += s->in.length;
    }
    return never; /* stepped over bytes that are no code, at the very candidate */
}

/* Follows what CPUID wrote to its four registers: it is read, and it is no address. */
struct results {
    uint8_t held;  /* registers that still hold one */
    unsigned left; /* instructions in which one must be read */
    bool read, misused;
};

static void follow_results(struct results *r, const struct instruction_use *use)
{
    r->misused |= r->held & use->addresses;
    if (r->left && r->held & use->reads)
        r->read = true;
    if (r->left)
        r->left--;
    r->held &= (uint8_t)~use->writes;
}

/* Where what decodes behind the candidate ends; 0 when it does not decode as far as it must, or
 * does not use the results of a CPUID as such. */
static size_t read_behind(const uint8_t *bytes, size_t size, size_t from, bool of_cpuid)
{
    struct instruction in;
    struct instruction_use use;
    struct results results = {
        .held = of_cpuid ? REGISTERS_OF_CPUID : 0, .left = USE_BEHIND, .read = !of_cpuid};
    size_t here = from;
    bool ended = false; /* the path; what follows is another's */
    while (here < from + MASK_NEIGHBOURHOOD_BYTES) {
        if (!instruction_decode_use(bytes + here, size - here, here, &in, &use))
            /* Code may end where its memory does, but not in the middle of a path. */
            return results.read && ended && here + INSTRUCTION_BYTES_MAX > size ? here : 0;
        if (!ended)
            follow_results(&results, &use);
        if (use.is_unusual || results.misused)
            return 0;
        ended |= in.flow == INSTRUCTION_STOP || in.flow == INSTRUCTION_JUMP ||
                 in.flow == INSTRUCTION_JUMP_COMPUTED;
        here += in.length;
    }
    return results.read ? here : 0;
}

enum mask_neighbourhood mask_neighbourhood_judge(const uint8_t *bytes, size_t size, size_t at,
                                                 size_t *ret_start, size_t *ret_first,
                                                 size_t *ret_end)
{
    struct arrival agreed = {0};
    unsigned arrived = 0;
    size_t earliest = MASK_NEIGHBOURHOOD_BYTES + READINGS;
    if (at < earliest)
        return MASK_AROUND_IS_CUT;
    struct steps steps = {.bytes = bytes, .size = size, .at = at, .start = at - earliest};
    for (unsigned i = 0; i < READINGS; i++) {
        struct arrival a = read_towards(&steps, at - earliest + i);
        if (!a.length)
            continue;
        if (arrived && (a.start != agreed.start || a.length != agreed.length))
            return MASK_AROUND_IS_UNLIKE_CODE;
        agreed = a;
        arrived++;
    }
    if (arrived < AGREE_LEAST)
        return MASK_AROUND_IS_UNLIKE_CODE;
    size_t end = read_behind(bytes, size, agreed.start + agreed.length, agreed.is_cpuid);
    if (!end)
        return MASK_AROUND_IS_UNLIKE_CODE;
    *ret_start = agreed.start;
    *ret_first = agreed.first;
    *ret_end = end;
    return agreed.is_cpuid ? MASK_AROUND_IS_CODE : MASK_AROUND_IS_OTHER_CODE;
}
