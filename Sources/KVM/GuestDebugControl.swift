/// What ends a run with `VCPUExit.debug`.
public struct GuestDebugControl: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// Anything at all; the kernel's name is `KVM_GUESTDBG_ENABLE`.
  public static let enable = GuestDebugControl(rawValue: 0x1)

  /// Every instruction; the kernel's name is `KVM_GUESTDBG_SINGLESTEP`.
  public static let singleStep = GuestDebugControl(rawValue: 0x2)

  /// INT3; the kernel's name is `KVM_GUESTDBG_USE_SW_BP`.
  public static let softwareBreakpoints = GuestDebugControl(rawValue: 0x1_0000)

  /// The debug registers; the kernel's name is `KVM_GUESTDBG_USE_HW_BP`.
  public static let hardwareBreakpoints = GuestDebugControl(rawValue: 0x2_0000)
}
