/// Whether a vCPU is runnable, halted or waiting to be started.
public struct MPState: RawRepresentable, Hashable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// Running, or ready to; the kernel's name is `KVM_MP_STATE_RUNNABLE`.
  public static let runnable = MPState(rawValue: 0)

  /// Not started yet; the kernel's name is `KVM_MP_STATE_UNINITIALIZED`.
  public static let uninitialized = MPState(rawValue: 1)

  /// INIT received, waiting for SIPI; the kernel's name is `KVM_MP_STATE_INIT_RECEIVED`.
  public static let initReceived = MPState(rawValue: 2)

  /// Executed HLT, waiting for an interrupt; the kernel's name is `KVM_MP_STATE_HALTED`.
  public static let halted = MPState(rawValue: 3)

  /// SIPI received; the kernel's name is `KVM_MP_STATE_SIPI_RECEIVED`.
  public static let sipiReceived = MPState(rawValue: 4)
}
