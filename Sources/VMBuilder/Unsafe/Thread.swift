internal import CKVM
internal import Glibc
internal import Synchronization

/// A mutex with a condition variable on CLOCK_MONOTONIC: `Synchronization` has no way to wait.
final class Monitor: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  init() {
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  func locked<Value>(_ body: () -> Value) -> Value {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body()
  }

  /// Waits inside `locked` until `holds`, for at most `milliseconds` if given; says whether it holds.
  func wait(milliseconds: Int? = nil, until holds: () -> Bool) -> Bool {
    var end = timespec()
    clock_gettime(CLOCK_MONOTONIC, &end)
    let nanoseconds = end.tv_nsec + (milliseconds ?? 0) % 1000 * 1_000_000
    end.tv_sec += (milliseconds ?? 0) / 1000 + nanoseconds / 1_000_000_000
    end.tv_nsec = nanoseconds % 1_000_000_000
    while !holds() {
      if milliseconds == nil {
        pthread_cond_wait(condition, mutex)
      } else if pthread_cond_timedwait(condition, mutex, &end) == ETIMEDOUT {
        return holds()
      }
    }
    return true
  }

  func signal() { pthread_cond_broadcast(condition) }
}

/// A joined POSIX thread that does one job after another.
package final class WorkerThread: @unchecked Sendable {
  private let monitor = Monitor()
  /// Whether a job is handed over and not done yet. Changes under the monitor; watched without it for a moment.
  private let isBusy = Atomic(false)
  private var job: (() -> Void)?
  private var isStopping = false
  private var threadID: Int32 = 0
  private var handle = pthread_t()

  /// The signal that takes a thread out of KVM_RUN. Its handler does nothing.
  private static let kickSignal: Int32 = {
    let signal = __libc_current_sigrtmin() + 3
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(signal, &action, nil)
    return signal
  }()

  private let name: String

  /// Starts the thread, under a name of at most 15 bytes for those who look at the process.
  package init(name: String) throws(MachineError) {
    self.name = name
    _ = Self.kickSignal
    let context = Unmanaged.passRetained(self).toOpaque()
    let result = pthread_create(&handle, nil, runWorker, context)
    guard result == 0 else {
      Unmanaged<WorkerThread>.fromOpaque(context).release()
      throw .cannotStartThread(errno: result)
    }
  }

  /// Hands over a job; the one before must have been waited for.
  package func begin(_ work: @escaping () -> Void) {
    monitor.locked {
      precondition(!isBusy.load(ordering: .relaxed), "a worker does one job at a time")
      job = work
      isBusy.store(true, ordering: .releasing)
      monitor.signal()
    }
  }

  /// Whether the job is done within `milliseconds`.
  package func isDone(within milliseconds: Int) -> Bool {
    spin(microseconds: 200) { !isBusy.load(ordering: .acquiring) }
    return monitor.locked {
      monitor.wait(milliseconds: milliseconds) { !isBusy.load(ordering: .relaxed) }
    }
  }

  /// Interrupts a system call that the thread may be in.
  package func kick() {
    let thread = monitor.locked { threadID }
    if thread != 0 { _ = ckvm_tgkill(getpid(), thread, Self.kickSignal) }
  }

  /// Ends the thread after its job and joins it.
  package func stop() {
    monitor.locked {
      isStopping = true
      monitor.signal()
    }
    pthread_join(handle, nil)
  }

  /// Leaves a thread alone that no kick brings back.
  func abandon() {
    monitor.locked {
      isStopping = true
      monitor.signal()
    }
    pthread_detach(handle)
  }

  fileprivate func loop() {
    blockAllSignals(except: Self.kickSignal)
    leaveRealtime()
    _ = ckvm_set_thread_name(name)
    monitor.locked { threadID = ckvm_gettid() }
    // The first job comes as soon as the machine is made.
    spin(microseconds: 1000) { isBusy.load(ordering: .acquiring) }
    while true {
      let next = monitor.locked { () -> (() -> Void)? in
        _ = monitor.wait { job != nil || isStopping }
        defer { job = nil }
        return job
      }
      guard let next else { return }
      next()
      monitor.locked {
        isBusy.store(false, ordering: .releasing)
        monitor.signal()
      }
      spin(microseconds: 30) { isBusy.load(ordering: .acquiring) }
    }
  }

  /// Looks for a while before a wait that costs two trips through the scheduler, and lets others run meanwhile. Without it
  /// the default run takes 7 % longer, the scenario with 1017 registrations twice as long (two CPUs, kvm_pvm, medians).
  ///
  /// Where somebody else wants the core, a yield costs a slice of time and a wait does not: whoever has slept is let in
  /// first when he wakes. So after a yield that was long nobody looks for a while, nor after a look that was in vain: an
  /// emulated guest takes longer than anybody looks.
  ///
  /// What each constant is worth on a busy machine (the same host, 17 processes that wait for a CPU, medians of 9 and 7 paired
  /// runs of four scenarios of registration and of the one with many vCPUs; two figures far apart are noise): without any look
  /// 1.08 and 0.86 times the time, without the 200 us 1.19 and 1.01, without the 1000 us 1.16 and 1.56, without the 30 us
  /// 1.05 and 1.16; looks without the pauses 1.94 (registration alone).
  ///
  /// By the TSC, not by CLOCK_MONOTONIC_RAW: that may be a slow device, and Linux gives whoever reads hpet at the same time
  /// as another CPU what that one found a little earlier, which would spoil the brackets.
  private func spin(microseconds: UInt64, until holds: () -> Bool) {
    var now = ckvm_rdtsc()
    let end = now &+ microseconds * Self.cyclesPerMicrosecond
    guard Self.crowdedUntil.load(ordering: .relaxed) < now else { return }
    while !holds(), now < end {
      sched_yield()
      let after = ckvm_rdtsc()
      if after > now, after - now > 300 * Self.cyclesPerMicrosecond {
        return Self.pause(after, microseconds: 20_000)
      }
      now = after
    }
    if now >= end, microseconds >= 200 { Self.pause(now, microseconds: 5000) }
  }

  private static func pause(_ now: UInt64, microseconds: UInt64) {
    crowdedUntil.store(now &+ microseconds * cyclesPerMicrosecond, ordering: .relaxed)
  }

  /// As good as any: it only says for how long to look.
  private static let cyclesPerMicrosecond: UInt64 = 2500
  /// Host TSC, in cycles.
  private static let crowdedUntil = Atomic<UInt64>(0)
}

private func runWorker(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  if let context { Unmanaged<WorkerThread>.fromOpaque(context).takeRetainedValue().loop() }
  return nil
}

/// Gives up a realtime policy that the thread inherited.
///
/// A guest that loops at SCHED_FIFO or SCHED_RR keeps all threads of its own and of lower priority off its CPU, and among
/// them the thread that would end the loop. The thread that runs the scenarios keeps its policy, so it always gets a CPU.
///
/// `pthread_attr_setschedpolicy` would also replace SCHED_IDLE by SCHED_OTHER, which may need a privilege.
private func leaveRealtime() {
  let policy = sched_getscheduler(0)
  guard policy == SCHED_FIFO || policy == SCHED_RR else { return }
  var parameters = sched_param(sched_priority: 0)
  sched_setscheduler(0, SCHED_OTHER, &parameters)
}

private func blockAllSignals(except signal: Int32) {
  var set = sigset_t()
  sigfillset(&set)
  sigdelset(&set, signal)
  pthread_sigmask(SIG_SETMASK, &set, nil)
}
