internal import PVClock

// Section C of the catalogue: the version protocol.

extension Rule {
  static let versions: [Rule] = [.versionEven, .versionStep]

  static let versionEven = Rule(
    "VERSION-EVEN",
    "The version is even whenever the vCPU that owns the record is in the guest.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW, field version",
    method: "Look at every record after the entry that updated it.",
    scenarios: [.registration, .version], everywhere: true,
    faults: ["kvm_setup_guest_pvclock() does not raise the version after the data"]
  ) { timeline in
    var findings = Findings()
    for (event, vcpu, page) in timeline.writtenPages {
      findings.expect(
        page.version % 2 == 0, at: [event], "an even version in vcpu\(vcpu)'s record",
        seen: "version \(page.version)")
    }
    return findings.outcome(atLeast: 2, "records", in: timeline)
  }

  static let versionStep = Rule(
    "VERSION-STEP",
    "An update takes the version from an even value on by 2, from an odd one to the second even value after it, "
      + "modulo 2^32; several updates add up.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, field version; arch/x86/kvm/x86.c, kvm_setup_guest_pvclock()",
    method:
      "The guest writes a version of its own into the record (0, odd, 0xfffffffe, 0xffffffff), writes the MSR "
      + "and looks.",
    scenarios: [.version],
    faults: [
      "the version goes on from the host's own count, not from guest memory",
      "… is made odd and left so",
    ]
  ) { timeline in
    var findings = Findings()
    var planted: [Hex: (Event, UInt32)] = [:]
    var hasOdd = false
    var hasWrap = false
    for event in timeline.history.events {
      switch event.action {
      case .vmCreated, .filled: planted = [:]
      case .poked(let address, let value):
        planted[address] = (event, UInt32(truncatingIfNeeded: value.value))
      case .page(_, let address, let page):
        guard let (poke, from) = planted[address] else { continue }
        planted[address] = nil
        let step = VersionProtocol.advance(from: from, to: page.version)
        let least: UInt32 = from % 2 == 0 ? 2 : 3
        hasOdd = hasOdd || from % 2 == 1
        hasWrap = hasWrap || from > UInt32.max - least
        findings.expect(
          step >= least && step < 1 << 31 && page.version % 2 == 0, at: [poke, event],
          "an even version at least \(least) after \(from), modulo 2^32",
          seen: "version \(page.version)")
      default: continue
      }
    }
    guard hasOdd && hasWrap else {
      return findings.outcome(
        atLeast: .max, "updates of odd versions and of ones that wrap", in: timeline)
    }
    return findings.outcome(atLeast: 6, "updates of a version that the guest had set", in: timeline)
  }
}
