import Testing

@testable import KVM

@Suite struct CapabilityTests {
  // The numbers are ABI, so they are spelled out here rather than taken from the headers.
  @Test(arguments: [
    (Capability.irqchip, 0, "KVM_CAP_IRQCHIP"),
    (.userMemory, 3, "KVM_CAP_USER_MEMORY"),
    (.clocksource, 8, "KVM_CAP_CLOCKSOURCE"),
    (.recommendedVCPUs, 9, "KVM_CAP_NR_VCPUS"),
    (.mpState, 14, "KVM_CAP_MP_STATE"),
    (.setGuestDebug, 23, "KVM_CAP_SET_GUEST_DEBUG"),
    (.xenHVM, 38, "KVM_CAP_XEN_HVM"),
    (.adjustClock, 39, "KVM_CAP_ADJUST_CLOCK"),
    (.tscControl, 60, "KVM_CAP_TSC_CONTROL"),
    (.getTSCKHz, 61, "KVM_CAP_GET_TSC_KHZ"),
    (.maxVCPUs, 66, "KVM_CAP_MAX_VCPUS"),
    (.kvmclockCtrl, 76, "KVM_CAP_KVMCLOCK_CTRL"),
    (.readOnlyMemory, 81, "KVM_CAP_READONLY_MEM"),
    (.vcpuAttributes, 127, "KVM_CAP_VCPU_ATTRIBUTES"),
    (.immediateExit, 136, "KVM_CAP_IMMEDIATE_EXIT"),
    (.userSpaceMSR, 188, "KVM_CAP_X86_USER_SPACE_MSR"),
    (.msrFilter, 189, "KVM_CAP_X86_MSR_FILTER"),
    (.enforcePVFeatureCPUID, 190, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID"),
    (.dirtyLogRing, 192, "KVM_CAP_DIRTY_LOG_RING"),
    (.vmTSCControl, 214, "KVM_CAP_VM_TSC_CONTROL"),
    (.dirtyLogRingAcquireRelease, 223, "KVM_CAP_DIRTY_LOG_RING_ACQ_REL"),
    (.dirtyLogRingWithBitmap, 225, "KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP"),
  ])
  func `a capability has the kernel's number and name`(
    capability: Capability, number: UInt32, name: String
  ) {
    #expect(capability.rawValue == number)
    #expect(capability.name == name)
    #expect(capability.description == name)
  }

  @Test func `all capabilities are in order and have names of their own`() {
    let all = Capability.all
    #expect(all.count == 53)
    #expect(all.map(\.rawValue) == all.map(\.rawValue).sorted())
    #expect(Set(all.compactMap(\.name)).count == all.count)
  }

  @Test func `a number without a name is described by the number`() {
    let unknown = Capability(rawValue: 60_000)
    #expect(unknown.name == nil)
    #expect(unknown.description == "capability 60000")
  }
}
