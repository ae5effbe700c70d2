public import ABIChecker

/// Why a VMM could not be tested, or stopped being testable.
public enum VMMError: Error, Sendable, CustomStringConvertible {
  /// Something that the test needs is not on this machine.
  case missing(what: String, remedy: String)
  case cannotStart(what: String, reason: String)
  /// The VMM ended: how, and the end of what it said on stderr.
  case ended(how: String, said: String)
  case timedOut(what: String, milliseconds: Int)
  /// The VMM said no.
  case refused(verb: VMMVerb, reason: String)
  /// The driver has nothing for it.
  case noVerb(VMMVerb)
  /// A request was not answered.
  case noAnswer(to: String, because: String)
  /// The guest, or QEMU's monitor, said something that is no answer.
  case badAnswer(String)
  case badDriver(String)
  case cancelled

  public var description: String {
    switch self {
    case .missing(let what, let remedy): "\(what) was not found; \(remedy)"
    case .cannotStart(let what, let reason): "\(what) could not be started: \(reason)"
    case .ended(let how, let said):
      "the VMM ended: \(how)" + (said.isEmpty ? "" : "; it said: \(said)")
    case .timedOut(let what, let milliseconds): "\(what) did not come within \(milliseconds) ms"
    case .refused(let verb, let reason): "the VMM refused to \(verb.rawValue): \(reason)"
    case .noVerb(let verb): "this driver has no \(verb.rawValue)"
    case .noAnswer(let what, let reason): "\(what) was not answered: \(reason)"
    case .badAnswer(let line): "this is no answer: \(line)"
    case .badDriver(let reason): "the driver's file is wrong: \(reason)"
    case .cancelled: "cancelled"
    }
  }
}
