internal import CKVM
internal import Glibc

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
    guard let milliseconds else {
      while !holds() { pthread_cond_wait(condition, mutex) }
      return true
    }
    var end = timespec()
    clock_gettime(CLOCK_MONOTONIC, &end)
    let nanoseconds = end.tv_nsec + milliseconds % 1000 * 1_000_000
    end.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
    end.tv_nsec = nanoseconds % 1_000_000_000
    while !holds() {
      if pthread_cond_timedwait(condition, mutex, &end) == ETIMEDOUT { return holds() }
    }
    return true
  }

  func signal() { pthread_cond_broadcast(condition) }
}

/// A joined POSIX thread that does one job after another.
package final class WorkerThread: @unchecked Sendable {
  private let monitor = Monitor()
  /// Whether a job is handed over and not done yet.
  private var isBusy = false
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
      precondition(!isBusy, "a worker does one job at a time")
      job = work
      isBusy = true
      monitor.signal()
    }
  }

  /// Whether the job is done within `milliseconds`.
  package func isDone(within milliseconds: Int) -> Bool {
    monitor.locked { monitor.wait(milliseconds: milliseconds) { !isBusy } }
  }

  /// Interrupts a system call that the thread may be in.
  func kick() {
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
    while true {
      let next = monitor.locked { () -> (() -> Void)? in
        _ = monitor.wait { job != nil || isStopping }
        defer { job = nil }
        return job
      }
      guard let next else { return }
      next()
      monitor.locked {
        isBusy = false
        monitor.signal()
      }
    }
  }
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
