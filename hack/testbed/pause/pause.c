/* The process that holds a pod's namespaces: it reaps orphans and sleeps until told to end. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) { _exit(signal == SIGTERM || signal == SIGINT ? 0 : 1); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }

int main(void) {
    struct sigaction on_end = {.sa_handler = end}, on_child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
    if (sigaction(SIGTERM, &on_end, 0) || sigaction(SIGINT, &on_end, 0) || sigaction(SIGCHLD, &on_child, 0))
        return 1;
    for (;;) pause();
}
