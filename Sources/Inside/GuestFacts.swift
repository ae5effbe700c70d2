/// What the kernel and the CPU tell any process of the guest's clocks.
public struct GuestFacts: Hashable, Sendable {
  /// `uname -r` of the guest.
  public var kernel: String
  public var clocksource: String?
  public var availableClocksources: [String]
  /// Whether CPUID says that a hypervisor runs below.
  public var isVirtual: Bool
  /// The hypervisor's signature: "KVMKVMKVM". Beside Hyper-V's, KVM's is at leaf 0x40000100.
  public var signature: String?
  /// The first leaf of KVM's; nil without KVM.
  public var base: UInt32?
  /// EAX of KVM's feature leaf.
  public var features: UInt32
  /// The TSC's frequency in kHz by leaf 0x40000010; nil if it names none.
  public var leafKHz: UInt32?
  /// The frequency in kHz that the kernel shows for its CPUs.
  public var shownKHz: UInt32?
  /// Whether the kernel took the TSC's frequency from the hypervisor and does not refine it.
  public var isFrequencyKnown: Bool
  public var commandLine: String

  public init(
    kernel: String = "", clocksource: String? = nil, availableClocksources: [String] = [],
    isVirtual: Bool = true, signature: String? = nil, base: UInt32? = nil, features: UInt32 = 0,
    leafKHz: UInt32? = nil, shownKHz: UInt32? = nil, isFrequencyKnown: Bool = false,
    commandLine: String = ""
  ) {
    self.kernel = kernel
    self.clocksource = clocksource
    self.availableClocksources = availableClocksources
    self.isVirtual = isVirtual
    self.signature = signature
    self.base = base
    self.features = features
    self.leafKHz = leafKHz
    self.shownKHz = shownKHz
    self.isFrequencyKnown = isFrequencyKnown
    self.commandLine = commandLine
  }

  static let kvm = "KVMKVMKVM"
  private static let clocksources = "/sys/devices/system/clocksource/clocksource0/"

  /// Those of this machine.
  public static func current(cpuid: (UInt32) -> CPUIDLeaf = CPUIDLeaf.read) -> GuestFacts {
    var facts = GuestFacts(kernel: kernelRelease())
    facts.clocksource = readFile(clocksources + "current_clocksource").map(trimmed)
    facts.availableClocksources =
      readFile(clocksources + "available_clocksource").map(words) ?? []
    facts.commandLine = readFile("/proc/cmdline").map(trimmed) ?? ""
    facts.take(cpuInfo: readFile("/proc/cpuinfo") ?? "")
    // So it does with a driver that changes the frequency.
    if readFile("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver") != nil {
      facts.isFrequencyKnown = false
    }
    facts.take(cpuid: cpuid)
    return facts
  }

  mutating func take(cpuInfo: String) {
    for line in cpuInfo.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1).map { Self.trimmed(String($0)) }
      guard parts.count == 2 else { continue }
      if parts[0] == "cpu MHz", shownKHz == nil { shownKHz = Self.kHz(ofMHz: parts[1]) }
      if parts[0] == "flags" {
        // With aperfmperf the kernel shows how fast a CPU runs at the moment.
        let flags = Self.words(parts[1])
        isFrequencyKnown = flags.contains("tsc_known_freq") && !flags.contains("aperfmperf")
        return
      }
    }
  }

  mutating func take(cpuid: (UInt32) -> CPUIDLeaf) {
    isVirtual = cpuid(1).ecx >> 31 == 1
    guard isVirtual else { return }
    for place in 0..<UInt32(4) {
      let leaf = cpuid(0x4000_0000 + place * 0x100)
      let name = Self.name(leaf)
      if place == 0 { signature = name }
      guard name == Self.kvm else { continue }
      (signature, base) = (name, 0x4000_0000 + place * 0x100)
      break
    }
    guard let base else { return }
    features = cpuid(base + 1).eax
    if cpuid(base).eax >= base + 0x10 {
      let kHz = cpuid(base + 0x10).eax
      leafKHz = kHz == 0 ? nil : kHz
    }
  }

  /// The twelve letters of a hypervisor, without what ends them.
  static func name(_ leaf: CPUIDLeaf) -> String {
    let bytes = [leaf.ebx, leaf.ecx, leaf.edx].flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
    }
    return String(decoding: bytes.filter { (0x20..<0x7f).contains($0) }, as: UTF8.self)
  }

  /// "2596.146" is 2596146 kHz.
  static func kHz(ofMHz text: String) -> UInt32? {
    let parts = text.split(separator: ".")
    guard parts.count == 2, parts[1].count == 3, let whole = UInt32(parts[0]), whole < 1_000_000,
      let rest = UInt32(parts[1])
    else { return nil }
    return whole * 1000 + rest
  }

  /// The frequency with which the kernel counts the TSC: what it took at boot from the record, rounded down to kHz, or from
  /// CPUID; nil where what it shows for its CPUs may be something else.
  public var kernelKHz: UInt32? { isFrequencyKnown ? shownKHz : nil }

  private static func trimmed(_ text: String) -> String {
    let blank: Set<Character> = [" ", "\t", "\n"]
    return String(
      text.drop { blank.contains($0) }.reversed().drop { blank.contains($0) }.reversed())
  }

  private static func words(_ text: String) -> [String] {
    text.split { $0 == " " || $0 == "\t" || $0 == "\n" }.map(String.init)
  }
}
