internal import CKVM
public import KVM

/// What goes wrong on purpose in a machine, to see what becomes of the verdict.
public struct Sabotage: Sendable {
  /// Done after an image was put into memory.
  var afterBoot: @Sendable (Int, GuestImage, borrowing GuestMemory) -> Void = { _, _, _ in }
  /// Asked for each run of a vCPU; nil lets KVM_RUN do it.
  var insteadOfRun: @Sendable () throws(KVMError) -> VCPUExit? = { () throws(KVMError) in nil }
  /// Done before a stopped guest's registers are read, on its thread.
  var beforeRegisters: @Sendable () -> Void = {}
  /// How long a guest may run without an answer; the machine's own patience if nil.
  var deadlineMilliseconds: Int?

  /// An image that starts with other code, and whose machine is given up soon.
  public static func guest(_ image: GuestImage = .agentLong, code: [UInt8]) -> Sabotage {
    var sabotage = Sabotage()
    sabotage.deadlineMilliseconds = 100
    sabotage.afterBoot = { _, booted, memory in
      if booted.name == image.name { memory.write(code, at: Int(image.entry)) }
    }
    return sabotage
  }

  /// The same without exception handlers: the first exception is a triple fault.
  public static func guestWithoutHandlers(code: [UInt8]) -> Sabotage {
    var sabotage = guest(code: code)
    let write = sabotage.afterBoot
    sabotage.afterBoot = { vcpu, image, memory in
      write(vcpu, image, memory)
      memory.fill(0, at: Int(Layout.system(vcpu)) + 0x200, count: 0x200)
    }
    return sabotage
  }

  /// KVM_RUN that does not run.
  public static func run(
    _ body: @escaping @Sendable () throws(KVMError) -> VCPUExit
  ) -> Sabotage {
    var sabotage = Sabotage()
    sabotage.deadlineMilliseconds = 100
    sabotage.insteadOfRun = { () throws(KVMError) in try body() }
    return sabotage
  }

  /// The thread ends in the middle of a run, without the C library's clean-up at thread exit.
  public static let threadDies = run { () throws(KVMError) in
    ckvm_exit_thread()
    return .halt
  }
}
