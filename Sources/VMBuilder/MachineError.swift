public import KVM

/// Why a machine could not do what it was asked.
public enum MachineError: Error, Sendable, CustomStringConvertible {
  case kvm(KVMError)
  /// The guest ran past its deadline and was kicked out; where it was.
  case deadlinePassed(vcpu: Int, milliseconds: Int, at: Whereabouts?)
  /// The guest left in a way that is not its doorbell.
  case guestStopped(vcpu: Int, exit: VCPUExit, at: Whereabouts?)
  /// The guest rang the doorbell but its mailbox holds nonsense.
  case mailboxUnreadable(vcpu: Int, reason: String)
  /// The vCPU's thread did not come back from KVM_RUN although it was kicked.
  case threadLost(vcpu: Int)
  case cannotStartThread(errno: Int32)
  case cancelled

  public var description: String {
    switch self {
    case .kvm(let error): "\(error)"
    case .deadlinePassed(let vcpu, let milliseconds, let at):
      "vcpu\(vcpu) did not answer within \(milliseconds) ms and was kicked; \(at.text)"
    case .guestStopped(let vcpu, let exit, let at):
      "vcpu\(vcpu)'s guest ended with \(exit); \(at.text)"
    case .mailboxUnreadable(let vcpu, let reason): "vcpu\(vcpu)'s mailbox: \(reason)"
    case .threadLost(let vcpu):
      "vcpu\(vcpu)'s thread did not come back from KVM_RUN after 2 s of kicks"
    case .cannotStartThread(let errno): "no thread for a vCPU: pthread_create gave errno \(errno)"
    case .cancelled: "cancelled"
    }
  }
}

extension KVMError {
  /// What KVM said, whoever asked it.
  package init?(in error: any Error) {
    switch error {
    case MachineError.kvm(let inner): self = inner
    case let inner as KVMError: self = inner
    default: return nil
    }
  }
}

extension Whereabouts? {
  fileprivate var text: String { map { "it was at \($0)" } ?? "where it was is not known" }
}

/// Where a guest was when it was stopped.
public struct Whereabouts: Hashable, Sendable, CustomStringConvertible {
  public var instructionPointer: UInt64
  public var stackPointer: UInt64
  public var codeSegment: UInt16
  public var controlRegister0: UInt64
  public var flags: UInt64

  public var description: String {
    func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }
    return "rip \(hex(instructionPointer)), cs \(hex(codeSegment)), rsp \(hex(stackPointer)), "
      + "cr0 \(hex(controlRegister0)), rflags \(hex(flags))"
  }

  /// The vCPU's registers; nil where KVM no longer gives them.
  init?(of vcpu: borrowing VCPU) {
    guard let registers = try? vcpu.registers(), let special = try? vcpu.specialRegisters() else {
      return nil
    }
    instructionPointer = registers.rip
    stackPointer = registers.rsp
    codeSegment = special.cs.selector
    controlRegister0 = special.cr0
    flags = registers.rflags
  }
}
