import ABIChecker
import Foundation
import Testing

/// Other people's programs take the reports for what they are.
@Suite struct ToolTests {
  let folder: Folder

  init() throws {
    folder = try Folder()
    try folder.writeHistory("broken", versions: [2, 3, 4])
    try folder.writeHistory("good", versions: [2, 2, 2, 2, 2, 4])
  }

  private func report(_ history: String, as format: String, _ rest: String) throws -> Child {
    try Child(
      "\"$K\" check \(history) --format \(format) >report; \(rest) \"$D\"/report", in: folder)
  }

  @Test(.enabled(if: Tool.prove.isThere, Tool.prove.reason))
  func proveTakesTheKTAP() throws {
    let good = try report("good", as: "ktap", "prove -e cat")
    good.expect(0)
    #expect(good.output.contains("\nResult: PASS\n"))
    let broken = try report("broken", as: "ktap", "prove -e cat")
    #expect(broken.code == 1)
    #expect(broken.output.contains("Failed 1/"))
  }

  @Test(.enabled(if: Tool.kunit.isThere, Tool.kunit.reason))
  func theKernelsOwnParserTakesTheKTAP() throws {
    let good = try report("good", as: "ktap", "python3 '\(Tool.kunit.path)' parse")
    #expect(good.code == 0)
    #expect(good.output.contains("Testing complete."))
    #expect(!good.output.lowercased().contains("error"), "\(good.output)")
    let broken = try report("broken", as: "ktap", "python3 '\(Tool.kunit.path)' parse")
    #expect(broken.output.contains("[FAILED] VERSION-EVEN"))
    #expect(broken.output.contains("failed: 1"))
    #expect(!broken.output.lowercased().contains("errors:"), "\(broken.output)")
  }

  @Test(
    .enabled(if: Tool.xsd.isThere, Tool.xsd.reason),
    .enabled(if: Tool.xmllint.isThere, Tool.xmllint.reason), arguments: ["good", "broken"])
  func theXMLIsWhatTheSchemaOfJenkinsDescribes(history: String) throws {
    let child = try report(
      history, as: "junit", "xmllint --noout --schema '\(Tool.xsd.path)'")
    child.expect(0, "/report validates\n")
    try Child(
      "sed -i 's/<testcase /<testcase undescribed=\"\" /' report; xmllint --noout --schema "
        + "'\(Tool.xsd.path)' report", in: folder
    ).expect(3, "The attribute 'undescribed' is not allowed.")
  }

  @Test(
    .enabled(if: Host.hasKVM, Host.reason), .enabled(if: Tool.xsd.isThere, Tool.xsd.reason),
    .enabled(if: Tool.xmllint.isThere, Tool.xmllint.reason),
    .enabled(if: Tool.kunit.isThere, Tool.kunit.reason))
  func aWholeRunPassesThroughAllOfThem() throws {
    let child = try Child(
      """
      "$K" run --output a.xml --output a.ktap >b; code=$?
      xmllint --noout --schema '\(Tool.xsd.path)' a.xml 2>&1
      prove -e cat a.ktap; python3 '\(Tool.kunit.path)' parse "$D"/a.ktap
      exit $code
      """, in: folder)
    child.expect(0)
    for word in [
      "a.xml validates\n", "Result: PASS\n", "Testing complete. Ran \(Rule.ofKVM.count) tests",
    ] {
      #expect(child.output.contains(word), "\(child.output)")
    }
  }
}

/// What `make fuzz` begins with.
@Suite struct FuzzScriptTests {
  @Test func eachKindOfInputGetsSeeds() throws {
    let folder = try Folder()
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../Fuzz/run.sh").standardizedFileURL.path
    // In the place of the fuzzer: says with which letters the seeds begin.
    try folder.write(
      "#!/bin/sh\nfor last; do :; done\nhead -qc 1 $last/* 2>/dev/null | fold -w 1 | sort -u | tr -d '\\n'\n",
      to: "fuzzer")
    let child = try Child("chmod +x fuzzer; sh '\(script)' ./fuzzer \"$K\" 1", in: folder)
    child.expect(0)
    #expect(child.output.hasSuffix(Host.hasKVM ? "hmrst" : "hmrt"), "\(child.output)")
  }
}

/// A program or a file that tests compare with; Tests/tools.sh fetches those that no package installs.
struct Tool {
  var path: String
  var remedy: String

  var isThere: Bool { FileManager.default.fileExists(atPath: path) }
  var reason: Comment { Comment(rawValue: "there is no \(path): \(remedy)") }

  static let prove = Tool(path: "/usr/bin/prove", remedy: "apt-get install perl")
  static let xmllint = Tool(path: "/usr/bin/xmllint", remedy: "apt-get install libxml2-utils")
  static let kunit = Tool(
    path: tools + "/tools/testing/kunit/kunit.py", remedy: "run Tests/tools.sh")
  static let xsd = Tool(path: tools + "/junit-10.xsd", remedy: "run Tests/tools.sh")

  private static let tools = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../.build/tools").standardizedFileURL.path
}
