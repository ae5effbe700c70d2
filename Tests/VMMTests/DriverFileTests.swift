import ABIChecker
import Testing

@testable import VMM

/// A driver's file is read whole, or refused with what is wrong in it.
@Suite struct DriverFileTests {
  private static let start = #""start": {"program": ["vmm", "{guest}"]}"#

  private func error(of json: String) -> String? {
    do throws(VMMError) {
      _ = try DriverFile(json: Array(json.utf8))
      return nil
    } catch { return "\(error)" }
  }

  @Test(arguments: [
    ("", "it is no JSON object"),
    ("[]", "it is no JSON object"),
    (#"{"name": "a""#, "it is no JSON object"),
    (#"{"console": "stdio", START}"#, "\"name\""),
    (#"{"name": "", "console": "stdio", START}"#, "\"name\""),
    (#"{"name": "a", START}"#, "\"console\" is to be"),
    (#"{"name": "a", "console": "tty", START}"#, "\"console\" is to be"),
    (#"{"name": "a", "console": {"sock": "x"}, START}"#, "\"console\" is to be"),
    (#"{"name": "a", "console": "stdio"}"#, "it has no \"start\""),
    (#"{"name": "a", "console": "stdio", "start": {"program": []}}"#, "\"program\" of \"start\""),
    (#"{"name": "a", "console": "stdio", "start": {"program": ["v", 1]}}"#, "no text"),
    (#"{"name": "a", "console": "stdio", "start": {"program": ["v"], "then": []}}"#, "\"then\""),
    (
      #"{"name": "a", "console": "stdio", "paus": [], START}"#, "the file has \"paus\"; it may have"
    ),
    (#"{"name": "a", "console": "stdio", "pause": {}, START}"#, "list of steps"),
    (#"{"name": "a", "console": "stdio", "pause": ["x"], START}"#, "no object"),
    (#"{"name": "a", "console": "stdio", "pause": [{"run": "x"}], START}"#, "list of words"),
    (#"{"name": "a", "console": "stdio", "pause": [{"method": "PUT"}], START}"#, "is to be {"),
    (
      #"{"name": "a", "console": "stdio", "pause": [{"method": "PUT", "path": "/x"}], START}"#,
      "\"api\" is absent"
    ),
    (
      #"{"name": "a", "console": "stdio", "api": "{dir}/a", "pause": [{"method": "PUT\r\nX: y", "path": "/x"}], START}"#,
      "is to be {"
    ),
    (
      #"{"name": "a", "console": "stdio", "pause": [{"run": ["x", "{pid}"]}], START}"#,
      "{pid} stands for nothing; there are {dir}"
    ),
  ])
  func whatIsWrongIsNamed(json: String, reason: String) throws {
    let found = try #require(error(of: json.replacing("START", with: Self.start)))
    #expect(found.contains(reason), "\(found)")
  }

  @Test func verbsAreWhatTheFileHas() throws {
    let file = try DriverFile(
      json: Array(
        #"""
        {"name": "a", "console": {"socket": "{dir}/c"}, "api": "{dir}/a",
         "start": {"program": ["v", "{vcpus}"]}, "pause": [{"method": "PUT", "path": "/p"}],
         "migrate": [], "save": [{"run": ["s", "{state}"]}]}
        """#.utf8))
    #expect(file.ability == [.start, .pause, .save, .quit])
    #expect(file.console == .socket("{dir}/c"))
  }

  @Test func placeholdersAreFilled() {
    let placeholders = Placeholders(values: ["vcpus": "3", "dir": "/d", "state": "{dir}"])
    #expect(placeholders.fill("{dir}/x-{vcpus}") == "/d/x-3")
    // What was filled in is not filled again.
    #expect(placeholders.fill("{state}") == "{dir}")
    #expect(
      placeholders.fill(
        .object(["n": .string("{vcpus}"), "s": .string("boot={vcpus}"), "a": .array([.bool(true)])])
      )
        == .object(["n": .number(3), "s": .string("boot=3"), "a": .array([.bool(true)])]))
  }

  @Test func numbersOfAnySizeAreWritten() {
    #expect(JSONValue.number(1e300).text == "1e+300")
    #expect(JSONValue.number(-4).text == "-4")
    #expect(JSONValue.number(0.5).text == "0.5")
  }

  @Test(arguments: [
    (
      "12 1.0 ioctl(9, KVM_KVMCLOCK_CTRL, 0) = -1 ENOTTY (…)",
      "KVM_KVMCLOCK_CTRL refused with ENOTTY"
    ),
    ("12 1.0 ioctl(9, KVM_SET_CLOCK, 0x7f) = 0", "KVM_SET_CLOCK"),
    ("12 1.0 ioctl(9, KVM_RUN, 0) = -1 EINTR (Interrupted system call)", nil),
    ("12 1.0 ioctl(9, KVM_RUN, 0) = -1 EFAULT (Bad address)", "KVM_RUN refused with EFAULT"),
    ("12 1.0 ioctl(9, KVM_SET_MSRS, {nmsrs=1}) = 1", nil),
    ("12 1.0 ioctl(9, TCGETS, 0x7f) = -1 ENOTTY (…)", nil),
  ])
  func ioctlsThatSaySomethingAreNoted(line: String, note: String?) {
    #expect(Tracer.notable(Substring(line)) == note)
  }
}
