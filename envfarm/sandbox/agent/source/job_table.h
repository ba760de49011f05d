/* All jobs by id, the time when the next wait runs out, and what killed minders leave behind. */
#ifndef JOB_TABLE_H
#define JOB_TABLE_H

#include "job.h"

void job_table_add(struct job *job);
void job_table_remove(struct job *job);
bool job_table_full(void);
void job_table_wake_at(uint64_t deadline_ms);
/* Children of the agent that are no minders are to be ended: they were a job's whose minder was killed. */
void job_table_sweep(void);

#endif
