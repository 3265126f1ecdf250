/** Stands for the validator of the tests of @rjsf/core, which the page does not have. */
export default {};
