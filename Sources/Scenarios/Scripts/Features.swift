internal import ABIChecker
internal import KVM
internal import VMBuilder

extension Scenario {
  /// ENFORCE-PV-GP, ENFORCE-PV-HOST, NOENFORCE-WORKS: vCPUs whose CPUID offers some of the clock, all, or none, confined to it and not.
  @Sendable static func pvFeatures(_ stage: Stage) throws {
    let supported = stage.host.cpuid.first { $0.function == 0x4000_0001 }?.eax ?? 0
    let offers: [UInt32?] = [0, 1, 8, 1 << 24, 9, supported, nil]
    let free: [UInt32?] = [0, 8, nil]
    try stage.makeMachine(vcpus: [], highest: 2 * offers.count + free.count)
    var next = 0
    func add(_ features: UInt32?, _ enforcement: Machine.Enforcement) throws {
      defer { next += 1 }
      try stage.addVCPU(next, features: features, enforcement)
      try stage.tryClockMSRs(next)
      if enforcement != .none { try stage.tryHostsClockMSRs(next) }
    }
    do {
      for enforcement in [Machine.Enforcement.beforeCPUID, .afterCPUID] {
        for features in offers { try add(features, enforcement) }
      }
    } catch MachineError.kvm(let error) where error.request == "KVM_ENABLE_CAP" {
      stage.lacks("KVM_CAP_ENFORCE_PV_FEATURE_CPUID", "\(error)")
    }
    for features in free { try add(features, .none) }
  }

  /// MSR-FILTER-GP: each clock MSR denied by itself, then none.
  @Sendable static func msrFilter(_ stage: Stage) throws {
    guard try stage.host.system.checkExtension(.msrFilter) > 0 else {
      return stage.lacks("KVM_CAP_X86_MSR_FILTER", "KVM_CHECK_EXTENSION returns 0")
    }
    try stage.makeMachine(vcpus: [0])
    for denied in MSR.clock.map({ [$0] }) + [[]] {
      if let error = stage.deny(denied) { return stage.lacks("KVM_X86_SET_MSR_FILTER", "\(error)") }
      try stage.tryClockMSRs(0)
      for msr in MSR.clock {
        let address = stage.placeRecord(of: 0, second: true)
        try stage.tryHostWriteMSR(0, msr, MSR.request(msr, at: address))
        _ = try stage.hostReadMSR(0, msr)
      }
    }
  }
}
