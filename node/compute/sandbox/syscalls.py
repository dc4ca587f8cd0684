"""System calls by subject, with their numbers on x86_64 and on aarch64 ("-": none there).

Numbers from Linux: ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h``,
which aarch64 follows. They never change, and `tests/compute/test_sandbox.py` holds them against the
headers of the machine that it runs on.
"""

from __future__ import annotations

from typing import Final

#: As `os.uname().machine` tells it -> (AUDIT_ARCH_* of linux/audit.h, column of the tables below).
MACHINES: Final = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}

#: What a pipeline needs to compute: anything that is not named here is "not implemented" to it.
ALLOWED: Final = """
# memory
mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 brk:12:214 madvise:28:233 mincore:27:232
msync:26:227 mlock:149:228 mlock2:325:284 munlock:150:229 mlockall:151:230 munlockall:152:231
membarrier:324:283 pkey_mprotect:329:288 pkey_alloc:330:289 pkey_free:331:290 mseal:462:462
mbind:237:235 get_mempolicy:239:236 set_mempolicy:238:237
# files, within what Landlock leaves
read:0:63 write:1:64 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 preadv:295:69 pwritev:296:70
preadv2:327:286 pwritev2:328:287 lseek:8:62 open:2:- openat:257:56 openat2:437:437 creat:85:- close:3:57
close_range:436:436 dup:32:23 dup2:33:- dup3:292:24 stat:4:- fstat:5:80 lstat:6:- newfstatat:262:79
statx:332:291 statfs:137:43 fstatfs:138:44 access:21:- faccessat:269:48 faccessat2:439:439 readlink:89:-
readlinkat:267:78 getdents:78:- getdents64:217:61 getcwd:79:17 chdir:80:49 fchdir:81:50 truncate:76:45
ftruncate:77:46 fallocate:285:47 fsync:74:82 fdatasync:75:83 sync_file_range:277:84 flock:73:32
fcntl:72:25 ioctl:16:29 fadvise64:221:223 readahead:187:213 copy_file_range:326:285 sendfile:40:71
splice:275:76 tee:276:77 mkdir:83:- mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:-
renameat:264:38 renameat2:316:276 link:86:- linkat:265:37 umask:95:166
# waiting for descriptors
poll:7:- ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20
epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:- eventfd2:290:19
signalfd:282:- signalfd4:289:74 pipe:22:- pipe2:293:59 timerfd_create:283:85 timerfd_settime:286:86
timerfd_gettime:287:87
# a pair of sockets within the process
socketpair:53:199 sendto:44:206 recvfrom:45:207 sendmsg:46:211 recvmsg:47:212 sendmmsg:307:269
recvmmsg:299:243 shutdown:48:210 getsockopt:55:209 setsockopt:54:208 getsockname:51:204
getpeername:52:205
# threads
clone:56:220 set_tid_address:218:96 set_robust_list:273:99 rseq:334:293 futex:202:98 futex_waitv:449:449
futex_wake:454:454 futex_wait:455:455 futex_requeue:456:456 sched_yield:24:124 sched_getaffinity:204:123
sched_setaffinity:203:122 sched_getparam:143:121 sched_getscheduler:145:120 sched_getattr:315:275
sched_get_priority_max:146:125 sched_get_priority_min:147:126 sched_rr_get_interval:148:127
getcpu:309:168 exit:60:93 exit_group:231:94 wait4:61:260 waitid:247:95
# signals
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigpending:127:136 rt_sigreturn:15:139
rt_sigsuspend:130:133 rt_sigtimedwait:128:137 sigaltstack:131:132 restart_syscall:219:128 kill:62:129
tgkill:234:131 rt_sigqueueinfo:129:138 rt_tgsigqueueinfo:297:240 pause:34:- alarm:37:-
# time
nanosleep:35:101 clock_nanosleep:230:115 clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169
time:201:- times:100:153 getitimer:36:102 setitimer:38:103 timer_create:222:107 timer_settime:223:110
timer_gettime:224:108 timer_getoverrun:225:109 timer_delete:226:111
# itself and the machine
getpid:39:172 gettid:186:178 getppid:110:173 getpgid:121:155 getpgrp:111:- getsid:124:156 getuid:102:174
geteuid:107:175 getgid:104:176 getegid:108:177 getresuid:118:148 getresgid:120:150 getgroups:115:158
getpriority:140:141 getrusage:98:165 getrlimit:97:163 setrlimit:160:164 prlimit64:302:261 prctl:157:167
arch_prctl:158:- capget:125:90 getrandom:318:278 sysinfo:99:179 uname:63:160
"""

#: What people try, and so gets a clearer word than "not implemented": "not permitted".
REFUSED: Final = """
socket:41:198 connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242 fork:57:-
vfork:58:- execve:59:221 execveat:322:281 tkill:200:130 setpgid:109:154 setsid:112:157
setpriority:141:140 sched_setscheduler:144:119 sched_setparam:142:118 sched_setattr:314:274
ioprio_set:251:30 ptrace:101:117 process_vm_readv:310:270 process_vm_writev:311:271 pidfd_open:434:434
pidfd_send_signal:424:424 pidfd_getfd:438:438 chmod:90:- fchmod:91:52 fchmodat:268:53 fchmodat2:452:452
chown:92:- fchown:93:55 lchown:94:- fchownat:260:54 utime:132:- utimes:235:- futimesat:261:-
utimensat:280:88 setxattr:188:5 lsetxattr:189:6 fsetxattr:190:7 removexattr:197:14 lremovexattr:198:15
fremovexattr:199:16 symlink:88:- symlinkat:266:36 mknod:133:- mknodat:259:33 name_to_handle_at:303:-
open_by_handle_at:304:- inotify_init:253:- inotify_init1:294:26 fanotify_init:300:262 mount:165:40
umount2:166:39 chroot:161:51 pivot_root:155:41 unshare:272:97 setns:308:268 setuid:105:146
setgid:106:144 setreuid:113:145 setregid:114:143 setresuid:117:147 setresgid:119:149 setgroups:116:159
setfsuid:122:151 setfsgid:123:152 capset:126:91 shmget:29:194 shmat:30:196 msgget:68:186 semget:64:190
mq_open:240:180 bpf:321:280 perf_event_open:298:241 keyctl:250:219 add_key:248:217 request_key:249:218
userfaultfd:323:282 init_module:175:105 finit_module:313:273 delete_module:176:106 kexec_load:246:104
reboot:169:142 swapon:167:224 swapoff:168:225 acct:163:89 quotactl:179:60 sethostname:170:161
setdomainname:171:162 settimeofday:164:170 clock_settime:227:112 adjtimex:159:171 clock_adjtime:305:266
syslog:103:116 personality:135:92 iopl:172:- ioperm:173:-
"""


def numbers(table: str, machine: str) -> dict[str, int]:
    """Return name -> number of the system calls of a table that a machine has."""
    column = MACHINES[machine][1]
    words = " ".join(line for line in table.splitlines() if not line.startswith("#")).split()
    found = (word.split(":") for word in words)
    return {entry[0]: int(entry[column]) for entry in found if entry[column] != "-"}
