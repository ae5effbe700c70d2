import Glibc
import Scenarios
import Synchronization

/// SIGINT, SIGTERM, SIGQUIT and SIGHUP: the first one ends the run in good order, a second one ends the program.
///
/// The signals are blocked, in this thread and so in all that it starts, and a thread waits for them: no handler
/// runs, and no system call of a scenario is cut short.
final class Interruption: Sendable {
  private let cancellation: Cancellation
  private let received = Atomic<Int32>(0)

  /// Blocks the signals for good and starts the thread that waits for them.
  init(cancelling cancellation: Cancellation) {
    self.cancellation = cancellation
    var signals = Self.signals
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    var thread = pthread_t()
    let context = Unmanaged.passRetained(self)
    let result = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<Interruption>.fromOpaque(argument).takeRetainedValue().wait()
        return nil
      }, context.toOpaque())
    guard result == 0 else {
      // Without the thread the signals do what they always do.
      context.release()
      pthread_sigmask(SIG_UNBLOCK, &signals, nil)
      return
    }
    pthread_detach(thread)
  }

  /// The signal that ended the run; nil if none came.
  var signalName: String? {
    switch received.load(ordering: .acquiring) {
    case 0: nil
    case SIGTERM: "SIGTERM"
    case SIGHUP: "SIGHUP"
    case SIGQUIT: "SIGQUIT"
    default: "SIGINT"
    }
  }

  /// 128 and the signal's number, as a shell has it.
  var exitCode: Int32 { 128 + received.load(ordering: .acquiring) }

  private static var signals: sigset_t {
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGINT)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGQUIT)
    // A terminal that is closed: what was found is still reported, wherever the output goes.
    sigaddset(&signals, SIGHUP)
    return signals
  }

  private func wait() {
    var signals = Self.signals
    while true {
      var signal: Int32 = 0
      guard sigwait(&signals, &signal) == 0 else { continue }
      guard received.load(ordering: .relaxed) == 0 else { _exit(128 + signal) }
      received.store(signal, ordering: .releasing)
      cancellation.cancel()
      Output.complain("kvmclock: ending the run; a second signal ends it at once")
    }
  }
}
