internal import Glibc
internal import KVM

extension RunPlan {
  /// One more than the clock records that fit in a page: there Linux's guests once ended.
  public static let usualVCPUs = 65

  /// The plan with a number of vCPUs that this host's KVM allows.
  ///
  /// - Throws: `KVMError` where the plan asks for more, or for none.
  func fitted(to system: borrowing KVMSystem) throws(KVMError) -> RunPlan {
    let most = try Self.mostVCPUs(on: system)
    var plan = self
    plan.vcpus = vcpus ?? min(Self.usualVCPUs, most)
    guard (1...most).contains(plan.vcpus ?? 0) else {
      throw KVMError(
        request: "KVM_CREATE_VCPU", errno: EINVAL,
        remedy: "This host's KVM allows 1 to \(most) vCPUs; \(plan.vcpus ?? 0) were asked for.")
    }
    return plan
  }

  /// The number of vCPUs whose ids, counted from 0, KVM takes.
  static func mostVCPUs(on system: borrowing KVMSystem) throws(KVMError) -> Int {
    let count = Int(try system.checkExtension(.maxVCPUs))
    let identifiers = Int(try system.checkExtension(.maxVCPUID))
    return max(1, identifiers > 0 ? min(count, identifiers) : count)
  }
}
