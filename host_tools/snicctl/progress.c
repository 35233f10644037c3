/*
 * How far something is: on a terminal a bar, elsewhere nothing.
 */
#include <unistd.h>
#include "command.h"

#define BAR_COLUMNS 40u

static const char *progress_what;

void progress_start(const char *what)
{
    progress_what = what;
}

void progress(size_t done, size_t all)
{
    static const char full[] = "########################################";
    uint32_t columns = all == 0 ? 0 : (uint32_t)(done * BAR_COLUMNS / all);

    if (isatty(2) == 0) {
        return;
    }
    fprintf(stderr, "\r%-10s [%.*s%*s] %3u %%%s", progress_what, (int)columns, full,
            (int)(BAR_COLUMNS - columns), "", all == 0 ? 0u : (unsigned)(done * 100 / all),
            done >= all ? "\n" : "");
    fflush(stderr);
}
