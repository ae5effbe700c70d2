/// Why a run ended; the fields are copied out of `kvm_run`.
public enum VCPUExit: Hashable, Sendable {
  /// OUT or OUTS of `count` items of `size` bytes each; `value` is the first item.
  case out(port: UInt16, size: UInt8, count: UInt32, value: UInt32)

  /// IN or INS of `count` items of `size` bytes each, to be answered by `VCPU.completeIn(value:)`.
  case `in`(port: UInt16, size: UInt8, count: UInt32)

  /// A read of `length` bytes where no slot is, to be answered by `VCPU.completeMMIORead(value:)`.
  case mmioRead(address: UInt64, length: UInt32)

  /// A write of `length` bytes where no slot is, or where the slot is read-only.
  case mmioWrite(address: UInt64, length: UInt32, value: UInt64)

  /// HLT, without in-kernel interrupt controllers.
  case halt

  /// A triple fault, most often.
  case shutdown

  /// A signal came, or an immediate exit was requested.
  case interrupted

  /// The guest can take an interrupt, as was asked for.
  case interruptWindowOpen

  /// A breakpoint or a single step.
  case debug

  /// RDMSR that goes to user space, to be answered by `VCPU.completeReadMSR(value:)`.
  case readMSR(index: UInt32, reason: UInt32)

  /// WRMSR that goes to user space, to be answered by `VCPU.completeWriteMSR(accepted:)`.
  case writeMSR(index: UInt32, value: UInt64, reason: UInt32)

  /// The processor refused to enter the guest; `cpu` is the host's.
  case failEntry(reason: UInt64, cpu: UInt32)

  /// KVM could not go on, such as at an instruction that it cannot emulate (suberror 1).
  case internalError(suberror: UInt32)

  /// The guest asked for a shutdown or a reset, or crashed.
  case systemEvent(type: UInt32)

  /// An exit that has no case here, by its `KVM_EXIT_…` number.
  case unsupported(UInt32)
}

extension VCPUExit: CustomStringConvertible {
  /// The exit's name and its numbers, on one line.
  public var description: String {
    switch self {
    case .out(let port, let size, let count, let value):
      "OUT to port \(hex(port)), size \(size), count \(count), value \(hex(value))"
    case .in(let port, let size, let count):
      "IN from port \(hex(port)), size \(size), count \(count)"
    case .mmioRead(let address, let length):
      "MMIO read at \(hex(address)), length \(length)"
    case .mmioWrite(let address, let length, let value):
      "MMIO write at \(hex(address)), length \(length), value \(hex(value))"
    case .halt: "HLT"
    case .shutdown: "shutdown (triple fault)"
    case .interrupted: "interrupted"
    case .interruptWindowOpen: "interrupt window open"
    case .debug: "debug"
    case .readMSR(let index, let reason):
      "RDMSR of \(hex(index)), reason \(reason)"
    case .writeMSR(let index, let value, let reason):
      "WRMSR of \(hex(index)), value \(hex(value)), reason \(reason)"
    case .failEntry(let reason, let cpu):
      "entry failed, hardware reason \(hex(reason)), host CPU \(cpu)"
    case .internalError(let suberror): "KVM internal error, suberror \(suberror)"
    case .systemEvent(let type): "system event, type \(type)"
    case .unsupported(let reason): "unsupported exit, reason \(reason)"
    }
  }

  private func hex(_ number: some BinaryInteger) -> String {
    "0x" + String(number, radix: 16)
  }
}
