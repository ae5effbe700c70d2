import Testing

@testable import Inside

struct FactsTests {
  static let kvm = CPUIDLeaf(eax: 0x4000_0001, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d)
  static let hyperV = CPUIDLeaf(
    eax: 0x4000_0006, ebx: 0x7263_694d, ecx: 0x666f_736f, edx: 0x7648_2074)

  private func facts(_ leaves: [UInt32: CPUIDLeaf]) -> GuestFacts {
    var facts = GuestFacts()
    facts.take { leaves[$0] ?? CPUIDLeaf(eax: 0) }
    return facts
  }

  static let virtual = CPUIDLeaf(eax: 0, ecx: 1 << 31)

  @Test func kvmIsFoundAlsoBesideHyperV() {
    let plain = facts([1: Self.virtual, 0x4000_0000: Self.kvm, 0x4000_0001: CPUIDLeaf(eax: 9)])
    #expect(plain.base == 0x4000_0000 && plain.features == 9 && plain.leafKHz == nil)
    let beside = facts([
      1: Self.virtual, 0x4000_0000: Self.hyperV, 0x4000_0100: Self.kvm,
      0x4000_0101: CPUIDLeaf(eax: 8),
    ])
    #expect(beside.base == 0x4000_0100 && beside.features == 8)
    #expect(beside.signature == "KVMKVMKVM")
    let other = facts([1: Self.virtual, 0x4000_0000: Self.hyperV])
    #expect(other.base == nil && other.signature == "Microsoft Hv")
    #expect(!facts([:]).isVirtual)
  }

  @Test func theLeafNamesAFrequencyOnlyWhereItIsInRange() {
    var long = Self.kvm
    long.eax = 0x4000_0010
    let leaves: [UInt32: CPUIDLeaf] = [
      1: Self.virtual, 0x4000_0000: long, 0x4000_0010: CPUIDLeaf(eax: 2_000_000),
    ]
    #expect(facts(leaves).leafKHz == 2_000_000)
    var short = leaves
    short[0x4000_0000] = Self.kvm
    #expect(facts(short).leafKHz == nil)
  }

  @Test func cpuInfoTellsTheKernelsFrequency() {
    var facts = GuestFacts()
    facts.take(
      cpuInfo:
        "processor\t: 0\ncpu MHz\t\t: 2596.146\nflags\t\t: fpu tsc tsc_known_freq\nprocessor\t: 1\ncpu MHz : 1.000\n"
    )
    #expect(facts.shownKHz == 2_596_146 && facts.isFrequencyKnown)
    #expect(facts.kernelKHz == 2_596_146)
    facts.take(cpuInfo: "flags : tsc_known_freq aperfmperf")
    #expect(facts.kernelKHz == nil)
  }

  @Test(arguments: [
    (GuestFacts(isVirtual: false), true, "no virtual machine"),
    (GuestFacts(signature: "Microsoft Hv"), true, "is not KVM"),
    (GuestFacts(signature: "KVMKVMKVM", features: 2), true, "does not offer kvmclock"),
    (GuestFacts(signature: "KVMKVMKVM", features: 9), true, "bit 24"),
    (ready(), false, "no data pages"),
    (ready(command: "quiet no-kvmclock"), true, "booted with no-kvmclock"),
    (ready(available: ["tsc", "hpet"]), true, "does not use kvmclock"),
    (ready(current: "kvm-clock"), true, "had no PVCLOCK_TSC_STABLE_BIT at boot"),
    (ready(), true, "never used kvm-clock"),
  ])
  func absenceHasAReason(_ facts: GuestFacts, _ hasPages: Bool, _ reason: String) {
    let absence = Absence(facts, hasPages: hasPages)
    #expect(absence.reason.contains(reason))
    #expect(!absence.remedy.isEmpty)
  }

  static func ready(
    current: String = "tsc", available: [String] = ["tsc", "kvm-clock"], command: String = ""
  ) -> GuestFacts {
    GuestFacts(
      clocksource: current, availableClocksources: available, signature: "KVMKVMKVM",
      features: 0x100_0009, commandLine: command)
  }
}
