extension Rule {
  static let offeredByVersion = Rule(
    "OFFERED-BY-VERSION",
    "A host offers what its version of Linux offers: each capability and device attribute for the clock that a release "
      + "brought is there in all later ones.",
    sources: [
      .x86("kvm_vm_ioctl_check_extension(), kvm_arch_tsc_has_attr(), by release"),
      .api("4.4 KVM_CHECK_EXTENSION"),
      .guest("QEMU and Firecracker, which leave out what is not offered, and tell nobody"),
    ],
    method:
      "KVM_CHECK_EXTENSION for each capability of a table by release, and KVM_HAS_DEVICE_ATTR for KVM_VCPU_TSC_OFFSET. "
      + "Where a module other than kvm_intel and kvm_amd runs the guests, what hangs on the CPU is not asked for. MSRs "
      + "and CPUID bits have rules of their own.",
    scenarios: [.discovery], coverage: [.observations(4, "offers of this release")]
  ) { timeline, findings in
    let host = timeline.history.header.host
    guard let version = KernelVersion(release: host.kernel) else {
      return findings.lacks("\(host.kernel) does not begin with a version of Linux")
    }
    let isUsual = ["kvm_intel", "kvm_amd"].contains(host.backend)
    for event in timeline.history.events {
      guard case .capability(let name, let value) = event.action else { continue }
      for offer in Offer.table
      where offer.name == name && offer.since <= version && (isUsual || offer.isOfAll) {
        findings.expect(
          UInt32(bitPattern: value) & offer.bits == offer.bits, at: [event],
          "\(Hex(offer.bits)) in the value of \(name), which Linux has since \(offer.since)",
          seen: "\(value) on Linux \(version)")
      }
    }
  }
}
