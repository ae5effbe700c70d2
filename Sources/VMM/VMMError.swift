public import ABIChecker

/// Why a VMM could not be tested, or stopped being testable.
public enum VMMError: Error, Sendable, CustomStringConvertible {
  /// Something that the test needs is not on this machine.
  case missing(what: String, remedy: String)
  case cannotStart(what: String, reason: String)
  /// The VMM ended: how, and the end of what it said on stderr.
  case ended(how: String, said: String)
  case timedOut(what: String, milliseconds: Int)
  /// The guest's first line did not come: what came on COM1 instead, and what the VMM said on stderr.
  case noGuest(milliseconds: Int, com1: String, said: String)
  case tooFewVCPUs(answered: Int, expected: Int, milliseconds: Int)
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
    case .timedOut(let what, let milliseconds):
      "\(what) did not come within \(Self.time(milliseconds))"
    case .noGuest(let milliseconds, let com1, let said):
      "the guest's first line did not come on COM1 within \(Self.time(milliseconds)); "
        + (com1.isEmpty ? "nothing came there" : "what came there ends: \(com1)")
        + (said.isEmpty ? "" : "; the VMM said: \(said)")
        + "; does it boot this guest, and is COM1 where the test listens?"
    case .tooFewVCPUs(let answered, let expected, let milliseconds):
      "\(answered) of \(expected) vCPUs answered within \(Self.time(milliseconds)); "
        + "does the VMM give the machine so many? --vcpus says how many"
    case .refused(let verb, let reason): "the VMM refused to \(verb.rawValue): \(reason)"
    case .noVerb(let verb): "this driver has no \(verb.rawValue)"
    case .noAnswer(let what, let reason): "\(what) was not answered: \(reason)"
    case .badAnswer(let line): "this is no answer: \(line)"
    case .badDriver(let reason): "the driver's file is wrong: \(reason)"
    case .cancelled: "cancelled"
    }
  }

  private static func time(_ milliseconds: Int) -> String {
    milliseconds % 1000 == 0 ? "\(milliseconds / 1000) s" : "\(milliseconds) ms"
  }
}
