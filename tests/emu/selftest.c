#include "base/log.h"
#include "hal/board.h"
void app_main(const struct board *board)
{
    LOG_INFO("selftest: config '%s'", board->config);
    board_exit(0);
}
