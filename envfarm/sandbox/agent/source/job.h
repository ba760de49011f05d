/* Jobs: their table, their streams, and who waits for them. `job_requests.c` has what is asked of them. */
#ifndef JOB_H
#define JOB_H

#include "agent.h"
#include "minder.h"
#include "output.h"

struct stream {
    struct watch watch; /* fd -1: at its end */
    struct output output;
    bool wanted;
};

/* A request that is answered later. */
struct wait {
    struct wait *next;
    struct address to;
    uint64_t deadline_ms, offset, length, inline_bytes;
    int descriptor;
};

struct job {
    struct job *next;
    uint8_t id[ID_LIMIT];
    size_t id_size;
    uint8_t digest[DIGEST_SIZE]; /* of the START that made it */
    pid_t minder;
    struct watch control; /* the socket to the minder; fd -1: the minder is gone */
    struct stream streams[DESCRIPTOR_COUNT];
    struct watch input;
    struct bytes input_left;
    uint64_t input_taken; /* bytes of standard input that were taken from the client */
    bool input_ends, forgotten, ended;
    uint64_t signal_serial;
    uint64_t memory_kills; /* that the box's own bound had asked for when it began */
    struct minder_report report;
    struct wait *waits;
};

/* STATUS_OK and the job; it may have been there already. */
enum status job_start(const struct request *request, struct job **job);
struct job *job_find(struct span id);
void job_order(struct job *job, int signal, bool tree);
void job_forget(struct job *job);
/* Give bytes to standard input. */
void job_feed(struct job *job, struct span data, bool ends);
bool job_input_drained(const struct job *job);
/* Call for each job that is not forgotten. */
void jobs_each(void (*act)(struct job *job, void *with), void *with);

bool job_wait(struct job *job, struct wait wait);
/* Answer the waits of a job that can be answered now. */
void job_answer(struct job *job);
/* Answers one wait if it can be, or if it has to be because time is up. In job_requests.c. */
bool wait_answer(struct job *job, struct wait *wait, bool time_is_up);

void jobs_forget_connection(const struct connection *connection);
/* Answer waits whose time is up, end what killed minders left; returns when to be called again. */
uint64_t jobs_tend(void);
void jobs_end_all(void);
bool jobs_all_gone(void);
/* Wait for children that have ended. */
void jobs_reap(void);

#endif
