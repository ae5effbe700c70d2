public import KVM

/// What goes wrong on purpose in a machine, to see what becomes of the verdict.
public struct Sabotage: Sendable {
  /// Done after an image was put into memory: a guest that does something else than it should.
  public var afterBoot: @Sendable (Int, GuestImage, borrowing GuestMemory) -> Void
  /// Asked for each run of a vCPU; nil lets KVM_RUN do it.
  public var insteadOfRun: @Sendable (Int) throws(KVMError) -> VCPUExit?

  public init(
    afterBoot: @escaping @Sendable (Int, GuestImage, borrowing GuestMemory) -> Void = { _, _, _ in
    },
    insteadOfRun: @escaping @Sendable (Int) throws(KVMError) -> VCPUExit? = { _ throws(KVMError) in
      nil
    }
  ) {
    self.afterBoot = afterBoot
    self.insteadOfRun = insteadOfRun
  }
}
